//! tmp
/// tmp
pub fn argv_class(path: &[u8], argv: &[u8], script: bool, comm: &[u8; 16]) -> String {
    let _ = (argv, script, comm);
    String::from_utf8_lossy(super::text::base_name(path)).into_owned()
}
