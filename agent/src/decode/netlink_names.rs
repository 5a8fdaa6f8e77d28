//! tmp
/// tmp
pub fn message_name<'a>(
    p: u16,
    t: u16,
    c: u16,
    f: &dyn Fn(u16) -> Option<&'a str>,
) -> std::borrow::Cow<'static, str> {
    let _ = f;
    format!("{p}/{t}/{c}").into()
}
