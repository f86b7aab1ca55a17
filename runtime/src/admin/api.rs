//! The API: what runs, and how that changes.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, HttpBody, to_bytes};
use axum::extract::{ConnectInfo, Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware;
use axum::response::IntoResponse;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::DeserializeOwned;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::guard::{Guard, guard, who};
use super::problem::Problem;
use crate::api::{
    Changed, Mode as Asked, NewVersion, Paused, PipelineView, RollBack, Target, VersionQuery,
};
use crate::chain::{Share, Unit};
use crate::deploy::{Change, Mode, Source, VersionsView};
use crate::pipeline::{Pipeline, Pipelines};
use crate::status::Status;
use crate::store::{By, Cause};

/// What the API is about.
#[derive(Clone)]
pub(super) struct Subject {
    pub(super) pipelines: Pipelines,
    pub(super) status: Status,
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Weir's admin API",
        description = "What a running Weir runs, and how that changes. It's about this one process: others of the same group have their own."
    ),
    modifiers(&Token),
    security((), ("token" = []))
)]
struct Document;

/// `[admin] token`, if there's one.
struct Token;

impl Modify for Token {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", bearer);
    }
}

/// The API's routes, and the document about them at `/v1/openapi.json`.
pub(super) fn router(subject: Subject, guarded: Guard) -> axum::Router {
    let (router, document) = OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(pipelines))
        .routes(routes!(pipeline))
        .routes(routes!(versions, new_version))
        .routes(routes!(roll_back))
        .routes(routes!(promote))
        .routes(routes!(end_shadow))
        .routes(routes!(pause))
        .routes(routes!(resume))
        .with_state(subject)
        .split_for_parts();
    router
        .route(
            "/v1/openapi.json",
            axum::routing::get(async move || Json(document)),
        )
        .layer(middleware::from_fn_with_state(guarded, guard))
}

type Answer<T> = Result<Json<T>, Problem>;

/// All pipelines as they stand
#[utoipa::path(get, path = "/v1/pipelines", responses((status = OK, body = Vec<PipelineView>)))]
async fn pipelines(State(subject): State<Subject>) -> Json<Vec<PipelineView>> {
    let pipelines = subject.pipelines.all();
    Json(pipelines.iter().map(|it| subject.view(it)).collect())
}

/// One pipeline as it stands
#[utoipa::path(get, path = "/v1/pipelines/{pipeline}",
    responses((status = OK, body = PipelineView), (status = NOT_FOUND, body = Problem)))]
async fn pipeline(
    State(subject): State<Subject>,
    Path(pipeline): Path<String>,
) -> Answer<PipelineView> {
    let pipeline = subject.find(&pipeline)?;
    Ok(Json(subject.view(&pipeline)))
}

/// What a transform ran and runs
#[utoipa::path(get, path = "/v1/pipelines/{pipeline}/transforms/{transform}/versions",
    responses((status = OK, body = VersionsView), (status = NOT_FOUND, body = Problem)))]
async fn versions(
    State(subject): State<Subject>,
    Path(target): Path<Target>,
) -> Answer<VersionsView> {
    let pipeline = subject.find(&target.pipeline)?;
    Ok(Json(pipeline.deployment().history_view(&target.transform)?))
}

/// Run a new version, or try it as a shadow or a canary
///
/// The body is JSON, or the module itself with the rest in the query. Answers once the workers have it, or with the reason
/// why all is as it was.
#[utoipa::path(post, path = "/v1/pipelines/{pipeline}/transforms/{transform}/versions",
    params(Target, VersionQuery),
    request_body(content(
        (NewVersion = "application/json"),
        (Vec<u8> = "application/wasm"),
    )),
    responses(
        (status = OK, body = Changed),
        (status = NOT_FOUND, body = Problem),
        (status = CONFLICT, body = Problem, description = "Something else is being done to the transform, or there's nothing to do"),
        (status = REQUEST_TIMEOUT, body = Problem, description = "The body came too slowly"),
        (status = PAYLOAD_TOO_LARGE, body = Problem),
        (status = UNSUPPORTED_MEDIA_TYPE, body = Problem),
        (status = UNPROCESSABLE_ENTITY, body = Problem, description = "The version isn't fit to run"),
    ))]
async fn new_version(
    State(subject): State<Subject>,
    info: ConnectInfo<SocketAddr>,
    Path(target): Path<Target>,
    request: Request,
) -> Answer<Changed> {
    let pipeline = subject.find(&target.pipeline)?;
    let most = pipeline.deployment().max_module_bytes(&target.transform)?;
    let (parts, body) = request.into_parts();
    let (module, asked) = match media_type(&parts.headers).as_deref() {
        Some("application/wasm") => {
            // By hand, so that a mistake in it is told as any other.
            let query = Query::try_from_uri(&parts.uri);
            let Query(query) = query.map_err(|why| bad(&why.body_text()))?;
            let bytes = read(body, most).await?;
            (Source::Bytes(bytes), beside(query)?)
        }
        Some("application/json") => {
            // As base64 text, with a config of 1 MiB and the rest around it.
            let bytes = read(body, most / 3 * 4 + (2 << 20)).await?;
            // Some tens of MiB take their time.
            let decoding = move || {
                let asked: NewVersion = parse(&bytes)?;
                Ok::<_, Problem>((source(&asked)?, asked))
            };
            let decoded = tokio::task::spawn_blocking(decoding).await;
            decoded.map_err(|why| bad(&why.to_string()))??
        }
        other => {
            let detail = format!(
                "the body must be application/wasm or application/json, not {}",
                other.unwrap_or("of no type")
            );
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
        }
    };
    check_note(&asked.note)?;
    let change = Change {
        transform: target.transform,
        module,
        mode: mode(&asked)?,
        config: asked.config,
        note: asked.note,
        by: by(&info, Cause::Api),
    };
    let done = pipeline.deployment().change(change).await?;
    Ok(Json(changed(&pipeline, done).await))
}

/// Go back to the version before, or to the one that's named; or end a canary
#[utoipa::path(post, path = "/v1/pipelines/{pipeline}/transforms/{transform}/rollback",
    request_body = RollBack,
    responses(
        (status = OK, body = Changed),
        (status = NOT_FOUND, body = Problem),
        (status = CONFLICT, body = Problem),
        (status = UNPROCESSABLE_ENTITY, body = Problem),
    ))]
async fn roll_back(
    State(subject): State<Subject>,
    info: ConnectInfo<SocketAddr>,
    Path(target): Path<Target>,
    request: Request,
) -> Answer<Changed> {
    let pipeline = subject.find(&target.pipeline)?;
    let asked: RollBack = json(request).await?;
    check_note(&asked.note)?;
    let deployment = pipeline.deployment();
    let done = deployment.roll_back(
        &target.transform,
        asked.to,
        by(&info, Cause::Rollback),
        asked.note,
    );
    let done = done.await?;
    Ok(Json(changed(&pipeline, done).await))
}

/// Run what is tried for all records
#[utoipa::path(post, path = "/v1/pipelines/{pipeline}/transforms/{transform}/promote",
    responses((status = OK, body = Changed), (status = NOT_FOUND, body = Problem), (status = CONFLICT, body = Problem)))]
async fn promote(
    State(subject): State<Subject>,
    info: ConnectInfo<SocketAddr>,
    Path(target): Path<Target>,
    request: Request,
) -> Answer<Changed> {
    check_write(request.headers())?;
    let pipeline = subject.find(&target.pipeline)?;
    let done = pipeline
        .deployment()
        .promote(&target.transform, by(&info, Cause::Promotion))
        .await?;
    Ok(Json(changed(&pipeline, done).await))
}

/// End a shadow
#[utoipa::path(delete, path = "/v1/pipelines/{pipeline}/transforms/{transform}/shadow",
    responses((status = OK, body = Changed), (status = NOT_FOUND, body = Problem), (status = CONFLICT, body = Problem)))]
async fn end_shadow(
    State(subject): State<Subject>,
    info: ConnectInfo<SocketAddr>,
    Path(target): Path<Target>,
) -> Answer<Changed> {
    let pipeline = subject.find(&target.pipeline)?;
    let done = pipeline
        .deployment()
        .end_shadow(&target.transform, by(&info, Cause::Api))
        .await?;
    Ok(Json(changed(&pipeline, done).await))
}

/// Read no more; what was read goes out, and the workers stay in their group
#[utoipa::path(post, path = "/v1/pipelines/{pipeline}/pause",
    responses((status = OK, body = Paused), (status = NOT_FOUND, body = Problem)))]
async fn pause(
    State(subject): State<Subject>,
    info: ConnectInfo<SocketAddr>,
    Path(pipeline): Path<String>,
    request: Request,
) -> Answer<Paused> {
    check_write(request.headers())?;
    set_paused(&subject, &pipeline, true, &info).await
}

/// Read on
#[utoipa::path(post, path = "/v1/pipelines/{pipeline}/resume",
    responses((status = OK, body = Paused), (status = NOT_FOUND, body = Problem)))]
async fn resume(
    State(subject): State<Subject>,
    info: ConnectInfo<SocketAddr>,
    Path(pipeline): Path<String>,
    request: Request,
) -> Answer<Paused> {
    check_write(request.headers())?;
    set_paused(&subject, &pipeline, false, &info).await
}

async fn set_paused(
    subject: &Subject,
    pipeline: &str,
    paused: bool,
    info: &ConnectInfo<SocketAddr>,
) -> Answer<Paused> {
    let pipeline = subject.find(pipeline)?;
    let news = pipeline
        .deployment()
        .set_paused(paused, by(info, Cause::Api))
        .await?;
    Ok(Json(Paused {
        pipeline: pipeline.config().name.clone(),
        paused,
        changed: news,
    }))
}

impl Subject {
    fn find(&self, name: &str) -> Result<std::sync::Arc<Pipeline>, Problem> {
        self.pipelines.get(name).ok_or_else(|| {
            let all = self.pipelines.all();
            let names: Vec<&str> = all.iter().map(|it| &*it.config().name).collect();
            let detail = format!(
                "there's no pipeline {name:?}; there are: {}",
                names.join(", ")
            );
            Problem::new(StatusCode::NOT_FOUND, detail)
        })
    }

    fn view(&self, pipeline: &Pipeline) -> PipelineView {
        let config = pipeline.config();
        let state = self.status.get(&config.name);
        PipelineView {
            pipeline: config.name.clone(),
            state: state
                .as_ref()
                .map_or_else(String::new, |it| it.state().to_string()),
            not_ready: state.as_ref().and_then(|it| it.not_ready()),
            workers: state.as_ref().map_or(0, |it| it.workers()),
            group: config.group.clone(),
            delivery: config.delivery.to_string(),
            paused: pipeline.deployment().paused(),
            transforms: pipeline.deployment().view(),
        }
    }
}

/// What was done, with what the caller should know of the group.
async fn changed(pipeline: &std::sync::Arc<Pipeline>, done: crate::deploy::Done) -> Changed {
    Changed {
        done,
        group: pipeline.config().group.clone(),
        members: pipeline.members().await,
    }
}

fn by(info: &ConnectInfo<SocketAddr>, cause: Cause) -> By {
    By {
        cause,
        who: Some(who(info)),
    }
}

fn mode(asked: &NewVersion) -> Result<Mode, Problem> {
    match asked.mode.unwrap_or_default() {
        Asked::Active => Ok(Mode::Active),
        Asked::Shadow => Ok(Mode::Shadow),
        Asked::Canary => {
            let percent = asked
                .percent
                .ok_or_else(|| bad("a canary needs `percent`"))?;
            let share = Share::new(percent, asked.unit.unwrap_or(Unit::Keys));
            let share = share.ok_or_else(|| bad("`percent` must be from 0.01 to 99.99"))?;
            Ok(Mode::Canary(share))
        }
    }
}

/// What was asked for in the query of a module.
fn beside(query: VersionQuery) -> Result<NewVersion, Problem> {
    let config = query.config.as_deref().map(|it| parse(it.as_bytes()));
    Ok(NewVersion {
        config: config.transpose()?,
        mode: query.mode,
        percent: query.percent,
        unit: query.unit,
        note: query.note,
        ..NewVersion::default()
    })
}

fn source(asked: &NewVersion) -> Result<Source, Problem> {
    match (&asked.module, &asked.digest) {
        (Some(_), Some(_)) => Err(bad("give `module` or `digest`, not both")),
        (Some(text), None) => {
            let bytes = STANDARD.decode(text);
            let bytes = bytes.map_err(|why| bad(&format!("`module` isn't base64: {why}")))?;
            Ok(Source::Bytes(bytes))
        }
        (None, Some(digest)) => Ok(Source::Digest(*digest)),
        (None, None) if asked.config.is_some() => Ok(Source::Active),
        (None, None) => Err(bad(
            "give `module`, `digest` or `config`: there's nothing new",
        )),
    }
}

/// Notes stand in histories and the audit log for long.
fn check_note(note: &Option<String>) -> Result<(), Problem> {
    match note {
        Some(note) if note.len() > MAX_NOTE => Err(bad(&format!(
            "the note has {} bytes, and {MAX_NOTE} are enough",
            note.len()
        ))),
        _ => Ok(()),
    }
}

/// The longest note, in bytes.
const MAX_NOTE: usize = 1_024;

/// A body in JSON; nothing at all counts as an empty object.
async fn json<T: DeserializeOwned>(request: Request) -> Result<T, Problem> {
    check_write(request.headers())?;
    let bytes = read(request.into_body(), 64 << 10).await?;
    match bytes.is_empty() {
        true => parse(b"{}"),
        false => parse(&bytes),
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(bytes)
        .map_err(|why| bad(&format!("the body isn't what it must be: {why}")))
}

/// A web page can't send this type without asking first, and is never answered.
fn check_write(headers: &HeaderMap) -> Result<(), Problem> {
    match media_type(headers).as_deref() {
        Some("application/json") => Ok(()),
        _ => Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "send `content-type: application/json`",
        )),
    }
}

fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let media = value.split(';').next().unwrap_or_default();
    Some(media.trim().to_ascii_lowercase())
}

/// How long a client may take for a small body, in seconds.
const BODY: u64 = 20;

/// How slowly a large one may come beside that: as over a line of 1 Mbit/s.
const BODY_BYTES_PER_SECOND: u64 = 100_000;

async fn read(body: Body, most: usize) -> Result<Vec<u8>, Problem> {
    let length = body.size_hint().upper().unwrap_or(most as u64);
    let time = Duration::from_secs(BODY + length / BODY_BYTES_PER_SECOND);
    let Ok(read) = tokio::time::timeout(time, to_bytes(body, most)).await else {
        return Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            format!("the body didn't come within {} s", time.as_secs()),
        ));
    };
    match read {
        Ok(bytes) => Ok(bytes.into()),
        Err(why) if is_too_long(&why) => Err(Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body has more than {most} bytes; `max_module_bytes` bounds the module"),
        )),
        Err(why) => Err(bad(&format!("the body can't be read: {why}"))),
    }
}

fn is_too_long(why: &axum::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(why);
    while let Some(it) = cause {
        if it.to_string().contains("length limit exceeded") {
            return true;
        }
        cause = it.source();
    }
    false
}

fn bad(detail: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, detail)
}

/// What can't be done with what's there.
pub(super) async fn not_allowed() -> impl IntoResponse {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "it doesn't take this method; /v1/openapi.json says which it takes",
    )
}

/// What nobody answers to.
pub(super) async fn not_found() -> impl IntoResponse {
    Problem::new(
        StatusCode::NOT_FOUND,
        "there's nothing here; /v1/openapi.json says what there is",
    )
}
