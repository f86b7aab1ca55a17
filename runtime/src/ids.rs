//! Keys for ids that survive a replay.
//!
//! A guest draws ids from a key that depends on where a record comes from and on nothing that changes between runs,
//! so a record that is processed again gets the same id. The chain of hashes: `base` = SHA-256 of the cluster, the
//! pipeline, the transform and the optional secret; a partition's key = HMAC-SHA256(base, topic id, topic, partition).

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use crate::config::Secret;

/// What all keys of one transform are made from.
#[derive(Clone)]
pub struct Base([u8; 32]);

/// What a transform's ids depend on beside the cluster.
#[derive(Clone, PartialEq, Eq)]
pub struct Names {
    /// The pipeline's name.
    pub pipeline: String,
    /// The transform's name.
    pub transform: String,
    /// What makes ids impossible to foresee, if anything does.
    pub secret: Option<Secret>,
}

impl Names {
    /// What the transform's keys are made from on this cluster.
    pub fn base(&self, cluster: &str) -> Base {
        let secret = self.secret.as_ref().map(Secret::reveal);
        Base::new(cluster, &self.pipeline, &self.transform, secret)
    }
}

impl Base {
    /// `cluster` is Kafka's cluster id; without a `secret`, whoever knows the rest can work ids out.
    pub fn new(cluster: &str, pipeline: &str, transform: &str, secret: Option<&str>) -> Base {
        let mut hasher = Sha256::new();
        for part in [cluster, pipeline, transform, secret.unwrap_or_default()] {
            // The length first, so that no two sets of parts run together into the same bytes.
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        Base(hasher.finalize().into())
    }

    /// The key of a partition. A topic that was deleted and made again has another `topic_id`, and so other keys.
    pub fn key(&self, topic_id: &[u8; 16], topic: &str, partition: i32) -> [u8; 32] {
        // HMAC takes a key of any length, so this can't fail.
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).unwrap_or_else(|_| unreachable!());
        mac.update(topic_id);
        mac.update(&(topic.len() as u64).to_le_bytes());
        mac.update(topic.as_bytes());
        mac.update(&partition.to_le_bytes());
        mac.finalize().into_bytes().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_matters() {
        let base =
            |cluster, pipeline, transform, secret| Base::new(cluster, pipeline, transform, secret);
        let key = |base: Base| base.key(&[7; 16], "t", 3);
        let first = key(base("c", "p", "t", None));
        assert_eq!(first, key(base("c", "p", "t", None)));
        for other in [
            base("d", "p", "t", None),
            base("c", "q", "t", None),
            base("c", "p", "u", None),
            base("c", "p", "t", Some("s")),
            base("cp", "", "t", None),
        ] {
            assert_ne!(first, key(other));
        }
        let base = base("c", "p", "t", None);
        assert_ne!(first, base.key(&[8; 16], "t", 3));
        assert_ne!(first, base.key(&[7; 16], "u", 3));
        assert_ne!(first, base.key(&[7; 16], "t", 4));
    }
}
