//! What facts call by a name that the kernel's programs call by a number.

use serde::{Deserialize, Deserializer, Serializer, de::Error};
use slowpod_ebpf::abi::{Kind, Miss};

/// [`Kind`] by its name.
pub(crate) mod kind {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(kind: &Kind, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(kind.name())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Kind, D::Error> {
        let name = String::deserialize(from)?;
        let found = Kind::ALL.into_iter().find(|kind| kind.name() == name);
        found.ok_or_else(|| D::Error::custom(format_args!("no kind of record is called {name:?}")))
    }
}

/// [`Miss`] by its name.
pub(crate) mod miss {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(reason: &Miss, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(reason.name())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Miss, D::Error> {
        let name = String::deserialize(from)?;
        let found = Miss::ALL.into_iter().find(|reason| reason.name() == name);
        found.ok_or_else(|| D::Error::custom(format_args!("no miss is called {name:?}")))
    }
}
