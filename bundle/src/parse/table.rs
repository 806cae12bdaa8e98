//! A table of the manifest, of which is known what keys it may have.
//!
//! By hand, not derived: what serde makes of a few dozen keys would be a tenth of the hypervisor.

use super::Fault;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The keys of one table.
pub(super) struct Table<'a> {
    keys: &'a DeTable<'a>,
    /// Where it starts.
    pub(super) at: usize,
}

impl<'a> Table<'a> {
    /// A table that has none but the known keys.
    pub(super) fn new(keys: &'a DeTable<'a>, at: usize, known: &[&str]) -> Result<Self, Fault> {
        let unknown = keys.keys().filter(|key| !known.contains(&&**key.get_ref()));
        match unknown.min_by_key(|key| key.span().start) {
            None => Ok(Self { keys, at }),
            Some(key) => {
                let known = known.join("`, `");
                let reason = format!("unknown field `{}`, there are `{known}`", key.get_ref());
                Err((key.span().start, reason))
            }
        }
    }

    fn value(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.keys.get(key)
    }

    /// A string, if it is given.
    pub(super) fn text(&self, key: &str) -> Result<Option<Spanned<String>>, Fault> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let text = value.get_ref().as_str().ok_or_else(|| wrong_type(value, "a string"))?;
        Ok(Some(Spanned::new(value.span(), text.to_string())))
    }

    /// A string that has to be given.
    pub(super) fn required(&self, key: &str) -> Result<Spanned<String>, Fault> {
        self.text(key)?.ok_or_else(|| (self.at, format!("missing field `{key}`")))
    }

    /// `true` or `false`, if it is given.
    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>, Fault> {
        let Some(value) = self.value(key) else { return Ok(None) };
        Ok(Some(value.get_ref().as_bool().ok_or_else(|| wrong_type(value, "true or false"))?))
    }

    /// A number, if it is given.
    pub(super) fn number(&self, key: &str) -> Result<Option<Spanned<i64>>, Fault> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let integer = value.get_ref().as_integer().ok_or_else(|| wrong_type(value, "a number"))?;
        let number = i64::from_str_radix(integer.as_str(), integer.radix())
            .map_err(|_| (value.span().start, format!("{key}: {} is too large", integer.as_str())))?;
        Ok(Some(Spanned::new(value.span(), number)))
    }

    /// A table below it, if it is given.
    pub(super) fn table(&self, key: &str, known: &[&str]) -> Result<Option<Table<'a>>, Fault> {
        self.value(key).map(|value| of(value, known)).transpose()
    }

    /// An array of tables; none if it is not given.
    pub(super) fn tables(&self, key: &str, known: &[&str]) -> Result<Vec<Table<'a>>, Fault> {
        let Some(value) = self.value(key) else { return Ok(Vec::new()) };
        let array = value.get_ref().as_array().ok_or_else(|| wrong_type(value, "an array of tables"))?;
        array.iter().map(|value| of(value, known)).collect()
    }
}

fn of<'a>(value: &'a Spanned<DeValue<'a>>, known: &[&str]) -> Result<Table<'a>, Fault> {
    let keys = value.get_ref().as_table().ok_or_else(|| wrong_type(value, "a table"))?;
    Table::new(keys, value.span().start, known)
}

fn wrong_type(value: &Spanned<DeValue<'_>>, expected: &str) -> Fault {
    (value.span().start, format!("invalid type: {}, expected {expected}", value.get_ref().type_str()))
}
