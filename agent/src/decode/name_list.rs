//! Names that the kernel numbers one after the other, written as one string: the shape in which hundreds of
//! them can be read at a glance and compared with the headers.

/// The name at a place (0 = the first) of a list of words separated by single spaces; `None` past its end,
/// or where it says `-` for a number that is not used.
pub(super) fn nth(list: &'static str, place: usize) -> Option<&'static str> {
    list.split(' ').nth(place).filter(|name| *name != "-")
}

#[cfg(test)]
mod tests {
    use super::nth;

    #[test]
    fn places_gaps_and_ends() {
        let list = "ONE - THREE";
        assert_eq!([0, 1, 2, 3].map(|place| nth(list, place)), [Some("ONE"), None, Some("THREE"), None]);
    }
}
