//! Real files, and real notices from the operating system.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread;
use std::time::Instant;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use super::*;

const DEADLINE: Duration = Duration::from_secs(60);

/// What makes the watch look.
#[derive(Clone, Copy)]
enum By {
    Notices,
    Time,
}

/// A folder of its own with files that are watched, and `other`, which is used to see that nothing was told of them.
struct Scene {
    folder: TempDir,
    watch: Watch,
    round: usize,
}

impl Scene {
    /// These files are watched, whether or not they exist, once `prepare` has made what should be there before.
    async fn new(by: By, names: &[&str], prepare: impl FnOnce(&Path)) -> Scene {
        let folder = tempfile::tempdir().unwrap();
        prepare(folder.path());
        let mut watch = Watch::new();
        match by {
            By::Notices => watch.every = Duration::from_secs(3600),
            By::Time => {
                watch.every = Duration::from_millis(10);
                watch.notices = Arc::default();
            }
        }
        let mut scene = Scene {
            folder,
            watch,
            round: 0,
        };
        scene.watch_these(names);
        // From here on it has read them all.
        scene.told_nothing().await;
        scene
    }

    fn watch_these(&mut self, names: &[&str]) {
        let names = names.iter().chain(&["other"]);
        self.watch
            .set(names.map(|name| self.folder.path().join(name)));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, content: &str) {
        fs::write(self.path(name), content).unwrap();
    }

    async fn told(&mut self, names: &[&str]) {
        let expected: Vec<_> = names.iter().map(|name| self.path(name)).collect();
        let told = timeout(DEADLINE, self.watch.changed()).await;
        assert_eq!(told.expect("told in time"), expected);
    }

    /// Nothing was told of what happened until now: a later change of another file is, alone.
    async fn told_nothing(&mut self) {
        self.round += 1;
        self.write("other", &format!("other {}", self.round));
        self.told(&["other"]).await;
    }
}

#[tokio::test]
async fn a_file_may_be_edited_in_place() {
    for by in [By::Notices, By::Time] {
        let mut scene =
            Scene::new(by, &["file"], |it| fs::write(it.join("file"), "1").unwrap()).await;
        for content in ["2", "3", "three", ""] {
            scene.write("file", content);
            scene.told(&["file"]).await;
        }
        scene.told_nothing().await;
    }
}

#[tokio::test]
async fn a_file_may_be_replaced_by_another() {
    for by in [By::Notices, By::Time] {
        let mut scene =
            Scene::new(by, &["file"], |it| fs::write(it.join("file"), "1").unwrap()).await;
        for content in ["2", "3"] {
            scene.write("new", content);
            fs::rename(scene.path("new"), scene.path("file")).unwrap();
            scene.told(&["file"]).await;
        }
        scene.told_nothing().await;
    }
}

#[tokio::test]
async fn a_file_may_go_and_come_back() {
    for by in [By::Notices, By::Time] {
        let mut scene = Scene::new(by, &["file"], |_| {}).await;
        scene.write("file", "1");
        scene.told(&["file"]).await;
        for (content, is_another) in [("1", false), ("2", true), ("2", false)] {
            fs::remove_file(scene.path("file")).unwrap();
            scene.told_nothing().await;
            scene.write("file", content);
            if is_another {
                scene.told(&["file"]).await;
            }
            scene.told_nothing().await;
        }
    }
}

#[tokio::test]
async fn the_same_content_is_no_change() {
    for by in [By::Notices, By::Time] {
        let mut scene =
            Scene::new(by, &["file"], |it| fs::write(it.join("file"), "1").unwrap()).await;
        let file = File::options()
            .append(true)
            .open(scene.path("file"))
            .unwrap();
        file.set_modified(std::time::SystemTime::UNIX_EPOCH)
            .unwrap();
        scene.told_nothing().await;
        scene.write("file", "1");
        scene.told_nothing().await;
        scene.write("new", "1");
        fs::rename(scene.path("new"), scene.path("file")).unwrap();
        scene.told_nothing().await;
        // It's read, and so known, all the same.
        scene.write("file", "2");
        scene.told(&["file"]).await;
    }
}

#[tokio::test]
async fn links_may_be_swapped_as_kubernetes_does() {
    fn swap(folder: &Path, version: usize) {
        let name = format!("..2026_{version}");
        fs::create_dir(folder.join(&name)).unwrap();
        fs::write(folder.join(&name).join("app.wasm"), version.to_string()).unwrap();
        symlink(&name, folder.join("..data_tmp")).unwrap();
        fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
        // Kubernetes removes the old one at once; others may keep it.
        if version.is_multiple_of(2) {
            fs::remove_dir_all(folder.join(format!("..2026_{}", version - 1))).unwrap();
        }
    }
    for by in [By::Notices, By::Time] {
        let mut scene = Scene::new(by, &["mount/app.wasm"], |it| {
            fs::create_dir(it.join("mount")).unwrap();
            symlink("..data/app.wasm", it.join("mount/app.wasm")).unwrap();
            swap(&it.join("mount"), 1);
        })
        .await;
        for version in 2..6 {
            swap(&scene.path("mount"), version);
            scene.told(&["mount/app.wasm"]).await;
        }
        // Where the links lead to is watched too.
        scene.write("mount/..2026_5/app.wasm", "five");
        scene.told(&["mount/app.wasm"]).await;
        scene.told_nothing().await;
    }
}

#[tokio::test]
async fn a_folder_may_come_go_and_be_another() {
    for by in [By::Notices, By::Time] {
        let mut scene = Scene::new(by, &["a/b/file"], |_| {}).await;
        for round in 0..2 {
            fs::create_dir(scene.path("a")).unwrap();
            scene.told_nothing().await;
            fs::create_dir(scene.path("a/b")).unwrap();
            scene.told_nothing().await;
            scene.write("a/b/file", &format!("made {round}"));
            scene.told(&["a/b/file"]).await;

            fs::create_dir(scene.path("a/new")).unwrap();
            scene.write("a/new/file", &format!("replaced {round}"));
            fs::rename(scene.path("a/b"), scene.path("a/old")).unwrap();
            fs::rename(scene.path("a/new"), scene.path("a/b")).unwrap();
            scene.told(&["a/b/file"]).await;
            scene.write("a/b/file", &format!("edited {round}"));
            scene.told(&["a/b/file"]).await;
            scene.write("a/old/file", "of no interest");
            scene.told_nothing().await;

            // Removed and made anew before anyone could look.
            fs::remove_dir_all(scene.path("a/b")).unwrap();
            fs::create_dir(scene.path("a/b")).unwrap();
            scene.told_nothing().await;
            scene.write("a/b/file", &format!("made anew {round}"));
            scene.told(&["a/b/file"]).await;

            fs::remove_dir_all(scene.path("a")).unwrap();
            scene.told_nothing().await;
        }
    }
}

#[tokio::test]
async fn a_file_that_is_written_in_parts_is_told_of_once_and_whole() {
    const PARTS: usize = 30;
    let deadline = Instant::now() + DEADLINE;
    for by in [By::Notices, By::Time] {
        loop {
            let mut scene = Scene::new(by, &["file"], |_| {}).await;
            let path = scene.path("file");
            let writer = thread::spawn(move || {
                let mut longest = Duration::ZERO;
                let mut before = Instant::now();
                let mut file = File::create(path).unwrap();
                for _ in 0..PARTS {
                    thread::sleep(Duration::from_millis(20));
                    let now = Instant::now();
                    file.write_all(b"part").unwrap();
                    longest = longest.max(before.elapsed());
                    before = now;
                }
                longest
            });
            let told = timeout(DEADLINE, scene.watch.changed()).await.unwrap();
            let length = fs::metadata(scene.path("file")).unwrap().len();
            let longest = writer.join().unwrap();
            // On a machine with other things to do, the writer may pause for so long that it seems to have finished.
            if longest < QUIET {
                assert_eq!(told, [scene.path("file")]);
                assert_eq!(length as usize, PARTS * "part".len());
                scene.told_nothing().await;
                break;
            }
            assert!(
                Instant::now() < deadline,
                "the writer paused for {longest:?}"
            );
        }
    }
}

#[test]
fn files_that_change_together_are_told_of_together() {
    let folder = tempfile::tempdir().unwrap();
    let [one, two, three] = ["1", "2", "3"].map(|name| folder.path().join(name));
    let watch = Watch::new();
    let mut lookout = watch.lookout.lock().unwrap();
    let wanted = [&one, &two, &three].map(|it| (it.clone(), Look::at(it)));
    let seen = lookout.look(Some(BTreeMap::from(wanted)));
    assert!(seen.changed.is_empty());

    fs::write(&one, "1").unwrap();
    let seen = lookout.look(None);
    assert!(seen.changed.is_empty() && seen.restless);
    fs::write(&two, "2").unwrap();
    let seen = lookout.look(None);
    assert!(seen.changed.is_empty() && seen.restless);
    let seen = lookout.look(None);
    assert_eq!(seen.changed, [one, two]);
    assert!(!seen.restless);
}

#[tokio::test]
async fn a_file_that_never_rests_holds_nobody_up_for_ever() {
    let mut scene = Scene::new(By::Notices, &["busy", "file"], |_| {}).await;
    let stop = Arc::new(AtomicBool::new(false));
    let (path, stopped) = (scene.path("busy"), Arc::clone(&stop));
    let writer = thread::spawn(move || {
        let mut file = File::create(path).unwrap();
        while !stopped.load(Ordering::Acquire) {
            file.write_all(b"more").unwrap();
            thread::sleep(Duration::from_millis(1));
        }
    });
    scene.write("file", "1");
    let file = scene.path("file");
    let told = async { while !scene.watch.changed().await.contains(&file) {} };
    timeout(DEADLINE, told).await.unwrap();
    stop.store(true, Ordering::Release);
    writer.join().unwrap();
}

#[tokio::test]
async fn what_else_happens_in_a_folder_holds_nobody_up() {
    let mut scene = Scene::new(By::Notices, &["file"], |_| {}).await;
    let stop = Arc::new(AtomicBool::new(false));
    let (folder, stopped) = (scene.folder.path().to_path_buf(), Arc::clone(&stop));
    let writer = thread::spawn(move || {
        while !stopped.load(Ordering::Acquire) {
            fs::write(folder.join("log.part"), "a line").unwrap();
            fs::rename(folder.join("log.part"), folder.join("log")).unwrap();
            fs::create_dir(folder.join("folder")).unwrap();
            fs::remove_dir(folder.join("folder")).unwrap();
            thread::sleep(Duration::from_millis(1));
        }
    });
    for content in ["1", "2", "3"] {
        scene.write("file", content);
        scene.told(&["file"]).await;
        scene.told_nothing().await;
    }
    stop.store(true, Ordering::Release);
    writer.join().unwrap();
}

#[tokio::test]
async fn nothing_is_lost_when_nobody_waits_any_more() {
    let mut scene = Scene::new(By::Notices, &["file"], |_| {}).await;
    for (round, pause) in [0, 1, 10, 150].into_iter().enumerate() {
        let pause = Duration::from_millis(pause);
        scene.write("file", &round.to_string());
        let told = timeout(DEADLINE, async {
            loop {
                tokio::select! {
                    biased;
                    told = scene.watch.changed() => break told,
                    () = sleep(pause) => tokio::task::yield_now().await,
                }
            }
        });
        assert_eq!(told.await.unwrap(), [scene.path("file")]);
        scene.told_nothing().await;
    }
}

#[tokio::test]
async fn the_set_of_files_may_change() {
    let mut scene = Scene::new(By::Notices, &["a", "b"], |_| {}).await;
    scene.write("a", "1");
    scene.write("b", "1");
    scene.write("c", "1");
    // `b` is watched no more, and what happened to `c` was before it was watched.
    scene.watch_these(&["a", "c"]);
    scene.told(&["a"]).await;
    scene.write("b", "2");
    scene.told_nothing().await;
    scene.write("c", "2");
    scene.told(&["c"]).await;
    // What's watched already stays known, and what's watched twice is told of once.
    scene.watch_these(&["a", "a", "c"]);
    scene.told_nothing().await;
    scene.write("a", "2");
    scene.told(&["a"]).await;
}

#[tokio::test]
async fn a_change_counts_from_when_a_file_is_set() {
    let mut scene = Scene::new(By::Notices, &[], |it| fs::write(it.join("a"), "1").unwrap()).await;
    scene.watch_these(&["a", "b"]);
    scene.write("a", "two");
    scene.write("b", "2");
    // A second call doesn't take what has happened since the first for known.
    scene.watch_these(&["a", "b"]);
    scene.told(&["a", "b"]).await;
    scene.told_nothing().await;
}

#[tokio::test]
async fn what_is_no_file_may_become_one() {
    let names = ["folder", "link", "pipe", "socket"];
    let mut scene = Scene::new(By::Notices, &names, |it| {
        fs::create_dir(it.join("folder")).unwrap();
        symlink("link", it.join("link")).unwrap();
        mknodat(CWD, it.join("pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        UnixListener::bind(it.join("socket")).unwrap();
    })
    .await;
    scene.told_nothing().await;
    for name in names {
        scene.write("new", name);
        let path = scene.path(name);
        match path.is_dir() {
            true => fs::remove_dir(path).unwrap(),
            false => fs::remove_file(path).unwrap(),
        }
        fs::rename(scene.path("new"), scene.path(name)).unwrap();
        scene.told(&[name]).await;
    }
    // And the other way about.
    fs::remove_file(scene.path("pipe")).unwrap();
    mknodat(CWD, scene.path("pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    scene.told_nothing().await;
}

#[tokio::test]
async fn what_gives_notices_ends_with_the_watch() {
    let scene = Scene::new(By::Notices, &["file"], |_| {}).await;
    // The watcher's thread holds it too.
    let notices = Arc::downgrade(&scene.watch.notices);
    drop(scene.watch);
    let ended = async {
        while notices.upgrade().is_some() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(DEADLINE, ended).await.unwrap();
}
