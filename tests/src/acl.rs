//! Access control lists, which rdkafka has no face for.
#![allow(unsafe_code)]

use std::ffi::{CString, c_char};
use std::time::Duration;

use anyhow::{Context, Error, bail};
use rdkafka::ClientConfig;
use rdkafka::client::Client;
use rdkafka::producer::{BaseProducer, DefaultProducerContext, Producer};
use rdkafka_sys as sys;

use crate::{broker, must, raw};

/// What is denied.
#[derive(Clone, Copy, Debug)]
pub enum Resource<'a> {
    /// A topic.
    Topic(&'a str),
    /// A consumer group.
    Group(&'a str),
    /// All `transactional.id`s that start so.
    TransactionalIds(&'a str),
}

/// What may not be done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Consume; of a group, be a member.
    Read,
    /// Produce; of a transactional id, use it.
    Write,
    /// Know that it's there.
    Describe,
}

/// What the tests' broker denies to everyone, until it's lifted.
#[derive(Debug)]
pub struct Denial {
    kind: sys::rd_kafka_ResourceType_t,
    name: CString,
    pattern: sys::rd_kafka_ResourcePatternType_t,
}

impl Denial {
    /// From now on nobody may do this with it. All else that could be done before still can.
    #[track_caller]
    pub fn new(resource: Resource<'_>, operation: Operation) -> Denial {
        use sys::rd_kafka_AclOperation_t as operations;
        use sys::rd_kafka_AclPermissionType_t as permissions;
        use sys::rd_kafka_ResourcePatternType_t as patterns;
        use sys::rd_kafka_ResourceType_t as kinds;

        let literal = patterns::RD_KAFKA_RESOURCE_PATTERN_LITERAL;
        let (kind, name, pattern) = match resource {
            Resource::Topic(name) => (kinds::RD_KAFKA_RESOURCE_TOPIC, name, literal),
            Resource::Group(name) => (kinds::RD_KAFKA_RESOURCE_GROUP, name, literal),
            Resource::TransactionalIds(start) => (
                kinds::RD_KAFKA_RESOURCE_TRANSACTIONAL_ID,
                start,
                patterns::RD_KAFKA_RESOURCE_PATTERN_PREFIXED,
            ),
        };
        let denial = Denial {
            kind,
            name: raw::c_string(name),
            pattern,
        };
        let operation = match operation {
            Operation::Read => operations::RD_KAFKA_ACL_OPERATION_READ,
            Operation::Write => operations::RD_KAFKA_ACL_OPERATION_WRITE,
            Operation::Describe => operations::RD_KAFKA_ACL_OPERATION_DESCRIBE,
        };
        // With one about it, what none allows is denied.
        let all = operations::RD_KAFKA_ACL_OPERATION_ALL;
        let allowed = denial.list(all, permissions::RD_KAFKA_ACL_PERMISSION_TYPE_ALLOW, false);
        let denied = denial.list(
            operation,
            permissions::RD_KAFKA_ACL_PERMISSION_TYPE_DENY,
            false,
        );
        must(ask(&mut [must(allowed), must(denied)], Request::Create));
        denial
    }

    /// From now on everyone may again.
    #[track_caller]
    pub fn lift(self) {
        let any = sys::rd_kafka_AclOperation_t::RD_KAFKA_ACL_OPERATION_ANY;
        let kind = sys::rd_kafka_AclPermissionType_t::RD_KAFKA_ACL_PERMISSION_TYPE_ANY;
        must(ask(
            &mut [must(self.list(any, kind, true))],
            Request::Delete,
        ));
    }

    /// An entry, or a filter for entries.
    fn list(
        &self,
        operation: sys::rd_kafka_AclOperation_t,
        permission: sys::rd_kafka_AclPermissionType_t,
        filter: bool,
    ) -> Result<Entry, Error> {
        let new = match filter {
            true => sys::rd_kafka_AclBindingFilter_new,
            false => sys::rd_kafka_AclBinding_new,
        };
        let mut text: [c_char; 256] = [0; 256];
        // SAFETY: all texts are NUL-terminated and copied, and the error text is as long as we say.
        let entry = unsafe {
            new(
                self.kind,
                self.name.as_ptr(),
                self.pattern,
                c"User:*".as_ptr(),
                c"*".as_ptr(),
                operation,
                permission,
                text.as_mut_ptr(),
                text.len(),
            )
        };
        match entry.is_null() {
            true => bail!("librdkafka makes no access control list of {self:?}"),
            false => Ok(Entry(entry)),
        }
    }
}

/// librdkafka's entry, which is ours.
struct Entry(*mut sys::rd_kafka_AclBinding_t);

impl Drop for Entry {
    fn drop(&mut self) {
        // SAFETY: it's ours, and nobody has it any more.
        unsafe { sys::rd_kafka_AclBinding_destroy(self.0) }
    }
}

#[derive(Clone, Copy)]
enum Request {
    Create,
    Delete,
}

/// How long the broker may take.
const TIMEOUT: Duration = Duration::from_secs(30);

fn ask(entries: &mut [Entry], request: Request) -> Result<(), Error> {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", broker().bootstrap())
        .create()?;
    let client: &Client<DefaultProducerContext> = producer.client();
    let mut raw: Vec<_> = entries.iter().map(|it| it.0).collect();
    // SAFETY: client and entries live through the call and are copied; the queue and the event are ours, and are freed
    // after they were used, the queue last; an event of null is looked at by nobody.
    unsafe {
        let queue = sys::rd_kafka_queue_new(client.native_ptr());
        let (list, count) = (raw.as_mut_ptr(), raw.len());
        let options = std::ptr::null();
        match request {
            Request::Create => {
                sys::rd_kafka_CreateAcls(client.native_ptr(), list, count, options, queue)
            }
            Request::Delete => {
                sys::rd_kafka_DeleteAcls(client.native_ptr(), list, count, options, queue)
            }
        }
        let event = sys::rd_kafka_queue_poll(queue, TIMEOUT.as_millis() as i32);
        let answer = match event.is_null() {
            true => Err(Error::msg("no answer")),
            false => outcome(event, request),
        };
        sys::rd_kafka_event_destroy(event);
        sys::rd_kafka_queue_destroy(queue);
        answer.context("can't change access control lists")
    }
}

/// What became of a request as a whole, and of each part.
///
/// # Safety
/// `event` is the answer to the request.
unsafe fn outcome(event: *mut sys::rd_kafka_event_t, request: Request) -> Result<(), Error> {
    let mut codes = Vec::new();
    // SAFETY: all that's asked of the event is its own and lives as long as it does; counts come with their arrays. No
    // error has the code 0.
    unsafe {
        codes.push(sys::rd_kafka_event_error(event));
        let mut count = 0;
        match request {
            Request::Create => {
                let result = sys::rd_kafka_event_CreateAcls_result(event);
                if !result.is_null() {
                    let parts = sys::rd_kafka_CreateAcls_result_acls(result, &mut count);
                    for at in 0..count {
                        let error = sys::rd_kafka_acl_result_error(*parts.add(at));
                        codes.push(sys::rd_kafka_error_code(error));
                    }
                }
            }
            Request::Delete => {
                let result = sys::rd_kafka_event_DeleteAcls_result(event);
                if !result.is_null() {
                    let parts = sys::rd_kafka_DeleteAcls_result_responses(result, &mut count);
                    for at in 0..count {
                        let error = sys::rd_kafka_DeleteAcls_result_response_error(*parts.add(at));
                        codes.push(sys::rd_kafka_error_code(error));
                    }
                }
            }
        }
    }
    match codes.iter().find(|it| **it as i32 != 0) {
        Some(code) => bail!("{code:?}"),
        None => Ok(()),
    }
}
