//! Questions about the cluster, and the few changes that Weir makes to it. All calls wait for their answer.

use std::ffi::{CString, c_int};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Error, bail};
use rdkafka_sys as sys;

use super::queue::{Queue, RawEvent};
use super::{Client, Code, ErrorText, Failure, codes, millis, read_error, text};

/// What the cluster says of a topic.
#[derive(Clone, Debug)]
pub(in crate::kafka) struct TopicDescription {
    /// The name.
    pub(in crate::kafka) name: String,
    /// Kafka's id of it, new if the topic is made anew; all zero from a broker older than 2.8.
    pub(in crate::kafka) id: [u8; 16],
    /// How many partitions it has.
    pub(in crate::kafka) partitions: usize,
}

/// A topic's name, and what the cluster says of it.
pub(in crate::kafka) type Described = (String, Result<TopicDescription, Failure>);

/// What a topic has for a setting.
pub(in crate::kafka) type Setting = Result<Option<String>, Failure>;

/// What the cluster says of a consumer group.
#[derive(Clone, Debug)]
pub(in crate::kafka) struct GroupDescription {
    /// The group.
    pub(in crate::kafka) group: String,
    /// `Stable`, `Empty` and so on, in Kafka's words.
    pub(in crate::kafka) state: String,
    /// Whether it has no members.
    pub(in crate::kafka) is_empty: bool,
}

impl Client {
    /// The cluster's id; `None` if it has none, or if no broker was heard within `timeout`.
    pub(in crate::kafka) fn cluster_id(&self, timeout: Duration) -> Option<String> {
        // SAFETY: the client lives; the text is ours and NUL-terminated, and freed as librdkafka wants it.
        unsafe {
            let id = sys::rd_kafka_clusterid(self.as_ptr(), millis(timeout));
            if id.is_null() {
                return None;
            }
            let copy = text(id);
            sys::rd_kafka_mem_free(self.as_ptr(), id.cast());
            Some(copy)
        }
    }

    /// The names of all topics that this user may see, with their number of partitions.
    pub(in crate::kafka) fn list_topics(
        &self,
        timeout: Duration,
    ) -> Result<Vec<(String, usize)>, Failure> {
        let mut metadata = std::ptr::null();
        // SAFETY: the client lives; the answer is ours, holds as many topics as it says, and is freed once copied.
        unsafe {
            let code = Code(codes::rd_kafka_metadata(
                self.as_ptr(),
                1,
                std::ptr::null_mut(),
                &mut metadata,
                millis(timeout),
            ));
            if !code.is_none() {
                return Err(Failure {
                    code,
                    text: String::new(),
                });
            }
            let count = usize::try_from((*metadata).topic_cnt).unwrap_or(0);
            let topics = (0..count)
                .map(|index| {
                    let topic = (*metadata).topics.add(index);
                    let partitions = usize::try_from((*topic).partition_cnt).unwrap_or(0);
                    (text((*topic).topic), partitions)
                })
                .collect();
            sys::rd_kafka_metadata_destroy(metadata);
            Ok(topics)
        }
    }

    /// Describes topics by name, each with its own failure. Never makes one.
    pub(in crate::kafka) fn describe_topics(
        self: &Arc<Client>,
        names: &[String],
        timeout: Duration,
    ) -> Result<Vec<Described>, Error> {
        let texts = names
            .iter()
            .map(|name| {
                CString::new(name.as_str())
                    .with_context(|| format!("a topic's name can't have a NUL byte: {name:?}"))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let mut pointers: Vec<_> = texts.iter().map(|text| text.as_ptr()).collect();
        let options = AdminOptions::new(
            self,
            sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
            timeout,
        )?;
        let queue = Queue::new(self);
        // SAFETY: the client, options and queue live; the names are copied into the collection, which is ours.
        unsafe {
            let topics =
                sys::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
            sys::rd_kafka_DescribeTopics(self.as_ptr(), topics, options.as_ptr(), queue.as_ptr());
            sys::rd_kafka_TopicCollection_destroy(topics);
        }
        let event = answer(&queue, timeout)?;
        // SAFETY: the event is the answer to the call above and lives while it is copied out of.
        unsafe {
            let result = sys::rd_kafka_event_DescribeTopics_result(event.as_ptr());
            if result.is_null() {
                bail!("the answer is to another question");
            }
            let mut count = 0;
            let topics = sys::rd_kafka_DescribeTopics_result_topics(result, &mut count);
            Ok((0..count)
                .map(|index| {
                    let topic = *topics.add(index);
                    let name = text(sys::rd_kafka_TopicDescription_name(topic));
                    let described = read_error(sys::rd_kafka_TopicDescription_error(topic))
                        .map(|()| read_topic(name.clone(), topic));
                    (name, described)
                })
                .collect())
        }
    }

    /// What topics have for a setting, each with its own failure; `None` if it has no such setting.
    pub(in crate::kafka) fn describe_setting(
        self: &Arc<Client>,
        topics: &[String],
        key: &str,
        timeout: Duration,
    ) -> Result<Vec<(String, Setting)>, Error> {
        let name = CString::new(key)
            .with_context(|| format!("a setting's name can't have a NUL byte: {key:?}"))?;
        let options = AdminOptions::new(
            self,
            sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS,
            timeout,
        )?;
        let queue = Queue::new(self);
        let resources = topics
            .iter()
            .map(|topic| Resource::topic(topic))
            .collect::<Result<Vec<_>, _>>()?;
        let mut pointers: Vec<_> = resources.iter().map(|it| it.0).collect();
        // SAFETY: the client, options, queue and resources live; the call copies the resources. The empty value says that
        // this setting is asked for.
        unsafe {
            for resource in &resources {
                sys::rd_kafka_ConfigResource_set_config(resource.0, name.as_ptr(), c"".as_ptr());
            }
            sys::rd_kafka_DescribeConfigs(
                self.as_ptr(),
                pointers.as_mut_ptr(),
                pointers.len(),
                options.as_ptr(),
                queue.as_ptr(),
            );
        }
        let event = answer(&queue, timeout)?;
        // SAFETY: the event is the answer to the call above and lives while it is copied out of.
        unsafe {
            let result = sys::rd_kafka_event_DescribeConfigs_result(event.as_ptr());
            if result.is_null() {
                bail!("the answer is to another question");
            }
            let mut count = 0;
            let resources = sys::rd_kafka_DescribeConfigs_result_resources(result, &mut count);
            Ok((0..count)
                .map(|index| read_setting(*resources.add(index), key))
                .collect())
        }
    }

    /// Makes a topic. `replicas` of -1 is the broker's default.
    pub(in crate::kafka) fn create_topic(
        self: &Arc<Client>,
        name: &str,
        partitions: i32,
        replicas: i32,
        timeout: Duration,
    ) -> Result<Result<(), Failure>, Error> {
        let topic = CString::new(name)
            .with_context(|| format!("a topic's name can't have a NUL byte: {name:?}"))?;
        let options = AdminOptions::new(
            self,
            sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_CREATETOPICS,
            timeout,
        )?;
        let queue = Queue::new(self);
        let mut error = ErrorText::new();
        // SAFETY: the client, options and queue live; the new topic is ours and copied by the call.
        unsafe {
            let mut topic = sys::rd_kafka_NewTopic_new(
                topic.as_ptr(),
                partitions,
                replicas,
                error.as_mut_ptr(),
                ErrorText::LENGTH,
            );
            if topic.is_null() {
                bail!("can't make topic \"{name}\": {error}");
            }
            sys::rd_kafka_CreateTopics(
                self.as_ptr(),
                &mut topic,
                1,
                options.as_ptr(),
                queue.as_ptr(),
            );
            sys::rd_kafka_NewTopic_destroy(topic);
        }
        let event = answer(&queue, timeout)?;
        // SAFETY: the event is the answer to the call above and lives while it is copied out of.
        unsafe {
            let result = sys::rd_kafka_event_CreateTopics_result(event.as_ptr());
            let mut count = 0;
            let topics = match result.is_null() {
                true => std::ptr::null_mut(),
                false => sys::rd_kafka_CreateTopics_result_topics(result, &mut count),
            };
            if count == 0 {
                bail!("the answer doesn't have the topic");
            }
            let code = Code(codes::rd_kafka_topic_result_error(*topics));
            Ok(match code.is_none() {
                true => Ok(()),
                false => Err(Failure {
                    code,
                    text: text(sys::rd_kafka_topic_result_error_string(*topics)),
                }),
            })
        }
    }

    /// All consumer groups that this user may see.
    pub(in crate::kafka) fn list_groups(
        self: &Arc<Client>,
        timeout: Duration,
    ) -> Result<Vec<GroupDescription>, Error> {
        let options = AdminOptions::new(
            self,
            sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPS,
            timeout,
        )?;
        let queue = Queue::new(self);
        // SAFETY: the client, options and queue live.
        unsafe {
            sys::rd_kafka_ListConsumerGroups(self.as_ptr(), options.as_ptr(), queue.as_ptr())
        };
        let event = answer(&queue, timeout)?;
        // SAFETY: the event is the answer to the call above and lives while it is copied out of.
        unsafe {
            let result = sys::rd_kafka_event_ListConsumerGroups_result(event.as_ptr());
            if result.is_null() {
                bail!("the answer is to another question");
            }
            let mut count = 0;
            let errors = sys::rd_kafka_ListConsumerGroups_result_errors(result, &mut count);
            // A broker that didn't answer may be the one with the group.
            if count > 0 {
                read_error(*errors)?;
            }
            let groups = sys::rd_kafka_ListConsumerGroups_result_valid(result, &mut count);
            Ok((0..count)
                .map(|index| {
                    use sys::rd_kafka_consumer_group_state_t::*;
                    let group = *groups.add(index);
                    let state = sys::rd_kafka_ConsumerGroupListing_state(group);
                    GroupDescription {
                        group: text(sys::rd_kafka_ConsumerGroupListing_group_id(group)),
                        state: text(sys::rd_kafka_consumer_group_state_name(state)),
                        is_empty: matches!(
                            state,
                            RD_KAFKA_CONSUMER_GROUP_STATE_EMPTY
                                | RD_KAFKA_CONSUMER_GROUP_STATE_DEAD
                        ),
                    }
                })
                .collect())
        }
    }
}

impl Client {
    /// How many members a consumer group has.
    pub(in crate::kafka) fn members(
        self: &Arc<Client>,
        group: &str,
        timeout: Duration,
    ) -> Result<usize, Error> {
        let options = AdminOptions::new(
            self,
            sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS,
            timeout,
        )?;
        let queue = Queue::new(self);
        let name = CString::new(group).context("the group's name holds a NUL byte")?;
        let mut names = [name.as_ptr()];
        // SAFETY: the client, options, queue and name live.
        unsafe {
            sys::rd_kafka_DescribeConsumerGroups(
                self.as_ptr(),
                names.as_mut_ptr(),
                names.len(),
                options.as_ptr(),
                queue.as_ptr(),
            )
        };
        let event = answer(&queue, timeout)?;
        // SAFETY: the event is the answer to the call above and lives while it is copied out of.
        unsafe {
            let result = sys::rd_kafka_event_DescribeConsumerGroups_result(event.as_ptr());
            if result.is_null() {
                bail!("the answer is to another question");
            }
            let mut count = 0;
            let groups = sys::rd_kafka_DescribeConsumerGroups_result_groups(result, &mut count);
            if count != 1 {
                bail!("the answer is about {count} groups instead of one");
            }
            read_error(sys::rd_kafka_ConsumerGroupDescription_error(*groups))?;
            Ok(sys::rd_kafka_ConsumerGroupDescription_member_count(*groups))
        }
    }
}

/// # Safety
/// `topic` lives.
unsafe fn read_topic(
    name: String,
    topic: *const sys::rd_kafka_TopicDescription_t,
) -> TopicDescription {
    let mut partitions = 0;
    let mut id = [0; 16];
    // SAFETY: as the caller says; the id is the topic's own.
    unsafe {
        sys::rd_kafka_TopicDescription_partitions(topic, &mut partitions);
        let uuid = sys::rd_kafka_TopicDescription_topic_id(topic);
        if !uuid.is_null() {
            let most = sys::rd_kafka_Uuid_most_significant_bits(uuid);
            let least = sys::rd_kafka_Uuid_least_significant_bits(uuid);
            id[..8].copy_from_slice(&most.to_be_bytes());
            id[8..].copy_from_slice(&least.to_be_bytes());
        }
    }
    TopicDescription {
        name,
        id,
        partitions,
    }
}

/// # Safety
/// `resource` lives.
unsafe fn read_setting(
    resource: *const sys::rd_kafka_ConfigResource_t,
    key: &str,
) -> (String, Setting) {
    // SAFETY: as the caller says; the entries are the resource's own, and as many as it says.
    unsafe {
        let name = text(sys::rd_kafka_ConfigResource_name(resource));
        let code = Code(codes::rd_kafka_ConfigResource_error(resource));
        if !code.is_none() {
            let text = text(sys::rd_kafka_ConfigResource_error_string(resource));
            return (name, Err(Failure { code, text }));
        }
        let mut count = 0;
        let entries = sys::rd_kafka_ConfigResource_configs(resource, &mut count);
        let value = (0..count)
            .map(|index| *entries.add(index))
            .find(|&entry| text(sys::rd_kafka_ConfigEntry_name(entry)) == key)
            .map(|entry| text(sys::rd_kafka_ConfigEntry_value(entry)));
        (name, Ok(value))
    }
}

/// What settings are asked of.
struct Resource(*mut sys::rd_kafka_ConfigResource_t);

impl Resource {
    fn topic(name: &str) -> Result<Resource, Error> {
        let text = CString::new(name)
            .with_context(|| format!("a topic's name can't have a NUL byte: {name:?}"))?;
        let kind = sys::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC;
        // SAFETY: the name is NUL-terminated and copied; the resource is ours.
        let resource = unsafe { sys::rd_kafka_ConfigResource_new(kind, text.as_ptr()) };
        match resource.is_null() {
            true => bail!("can't ask for the settings of topic {name:?}"),
            false => Ok(Resource(resource)),
        }
    }
}

impl Drop for Resource {
    fn drop(&mut self) {
        // SAFETY: ours.
        unsafe { sys::rd_kafka_ConfigResource_destroy(self.0) };
    }
}

/// The answer to an admin call.
fn answer(queue: &Queue, timeout: Duration) -> Result<RawEvent, Error> {
    // The call has its own timeout, so an answer comes; this one is for the way to it.
    let event = queue
        .poll_raw(timeout + Duration::from_secs(1))
        .context("no answer in time")?;
    // SAFETY: the event lives, and the text with it.
    let failure = unsafe {
        Failure {
            code: Code(codes::rd_kafka_event_error(event.as_ptr())),
            text: text(sys::rd_kafka_event_error_string(event.as_ptr())),
        }
    };
    match failure.code.is_none() {
        true => Ok(event),
        false => Err(failure.into()),
    }
}

/// How an admin call is to be made.
struct AdminOptions(*mut sys::rd_kafka_AdminOptions_t);

impl AdminOptions {
    fn new(
        client: &Client,
        call: sys::rd_kafka_admin_op_t,
        timeout: Duration,
    ) -> Result<AdminOptions, Error> {
        let mut error = ErrorText::new();
        // SAFETY: the client lives; the options are ours, and the error text is as long as we say.
        unsafe {
            let options = AdminOptions(sys::rd_kafka_AdminOptions_new(client.as_ptr(), call));
            let code = sys::rd_kafka_AdminOptions_set_request_timeout(
                options.0,
                c_int::max(millis(timeout), 1),
                error.as_mut_ptr(),
                ErrorText::LENGTH,
            );
            match Code::of(code).is_none() {
                true => Ok(options),
                false => bail!("{error}"),
            }
        }
    }

    fn as_ptr(&self) -> *const sys::rd_kafka_AdminOptions_t {
        self.0
    }
}

impl Drop for AdminOptions {
    fn drop(&mut self) {
        // SAFETY: ours.
        unsafe { sys::rd_kafka_AdminOptions_destroy(self.0) };
    }
}
