//! Build, test, demo and measure.
fn main() {}
