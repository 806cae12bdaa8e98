//! Tests of the crate as its users see it.

mod editor;
mod json;
mod language;
mod output;
mod screen;
