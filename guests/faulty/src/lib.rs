//! A Weir transform.
