//! tmp
/// tmp
pub fn errno_name(errno: u32) -> std::borrow::Cow<'static, str> {
    errno.to_string().into()
}
