//! The SDK carries a copy of the contract, since a published crate can't reach the repository's.

#[test]
fn the_sdks_copy_of_the_contract_is_the_contract() {
    let folder = env!("CARGO_MANIFEST_DIR");
    let read = |path: &str| {
        let path = format!("{folder}/{path}");
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
    };
    assert_eq!(
        read("wit/transform.wit"),
        read("../../wit/transform.wit"),
        "copy wit/transform.wit to guests/sdk/wit/"
    );
}
