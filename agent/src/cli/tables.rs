//! tmp
/// tmp
pub fn render(_view: &str, body: &[u8], _width: usize) -> Result<String, serde_json::Error> {
    let v: serde_json::Value = serde_json::from_slice(body)?;
    Ok(serde_json::to_string_pretty(&v)?)
}
