//! stub
use power::CpuFeatures;
use crate::memory::Map;
pub fn epitaph() {}
pub fn start(_m: &Map, _f: &CpuFeatures) -> ! { crate::epitaph::end(0, format_args!("nothing to run")) }
