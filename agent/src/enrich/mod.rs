//! Pure tables that say who an event belongs to. In: decoded events and facts. Out: identities.

pub mod identity;
