//! Memory that is held for a long time and looked at again and again.
//!
//! A half of it never changes, and is the same in every process of this kind, on any machine: whoever looks for equal pages finds them.
//! The other half depends on the seed. It is in pieces, of which one is written anew at each look.

use crate::memory::{Mapping, PAGE};

const PIECES: usize = 16;
/// Those from here on are the process's own.
const OWN: usize = PIECES / 2;

/// What is held.
pub struct Held {
    pieces: [Mapping; PIECES],
    /// How often it was found right.
    pub looks: usize,
}

impl Held {
    /// So many bytes, rounded down to a page for each piece.
    pub fn new(bytes: usize, seed: u64) -> Result<Held, usize> {
        let mut held = Held { pieces: [Mapping::NONE; PIECES], looks: 0 };
        let pages = bytes / PIECES / PAGE;
        if pages == 0 {
            return Ok(held);
        }
        for (n, piece) in held.pieces.iter_mut().enumerate() {
            let own = if n < OWN { 0 } else { 1 + seed };
            *piece = Mapping::new(pages, (n as u64) << 40 ^ own.wrapping_mul(0xd134_2543_de82_ef95))?;
            piece.fill();
        }
        Ok(held)
    }

    /// Looks at one piece, and writes one of its own.
    pub fn look(&mut self) {
        self.pieces[self.looks % PIECES].check("held");
        let own = &mut self.pieces[OWN + self.looks % OWN];
        own.check("held, before it changes");
        own.fill();
        self.looks += 1;
    }

    /// Looks at all of it.
    pub fn check(&self) {
        self.pieces.iter().for_each(|piece| piece.check("held to the end"));
    }
}
