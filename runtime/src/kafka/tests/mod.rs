//! Against the mock cluster.
