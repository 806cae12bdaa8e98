//! The interrupts of one partition as another one's, of the same shape.

use super::{SeqCst, SourceWord, Xics};

impl Xics<'_> {
    /// Makes every controller and source what it is in `from`: what is pending is pending here, what its guest has taken and not
    /// ended is to be ended here, and lines are up that are up there. Whether a source signals by level stays as it is. Of servers
    /// and sources that only one of the two has, nothing changes.
    ///
    /// Only while no processor of either runs and nobody raises an interrupt. Who lets them go afterwards looks at each server
    /// ([`Xics::pending`]), since nobody is kicked.
    pub fn copy_from(&self, from: &Xics<'_>) {
        for (icp, other) in self.icps.iter().zip(from.icps) {
            icp.0.store(other.0.load(SeqCst), SeqCst);
        }
        for (source, other) in self.sources.iter().zip(from.sources) {
            let level = SourceWord(source.0.load(SeqCst)).has(SourceWord::LEVEL);
            let word = SourceWord(other.0.load(SeqCst)).without(SourceWord::LEVEL);
            source.0.store(if level { word.with(SourceWord::LEVEL) } else { word }.0, SeqCst);
        }
    }
}
