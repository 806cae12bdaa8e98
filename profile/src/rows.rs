//! Where a row of the benchmark ends: a guest says so on its console.

/// What guests print.
#[derive(Debug, Default)]
pub struct Console {
    line: Vec<u8>,
}

impl Console {
    /// Longer lines are no rows.
    const LIMIT: usize = 256;

    /// Takes in the arguments of an H_PUT_TERM_CHAR: the length, and two registers with characters. A call that has to be made
    /// again comes twice. Gives the row that ends here: the name after `@ bench ` on a line.
    pub fn put(&mut self, length: u64, registers: [u64; 2]) -> Option<String> {
        let mut row = None;
        let bytes = registers.map(u64::to_be_bytes);
        for &byte in bytes.as_flattened().iter().take(usize::try_from(length).unwrap_or(0)) {
            if byte != b'\n' {
                if self.line.len() < Self::LIMIT {
                    self.line.push(byte);
                }
                continue;
            }
            let line = String::from_utf8_lossy(&self.line);
            let name = line.trim().strip_prefix("@ bench ").and_then(|rest| rest.split_whitespace().next());
            row = name.map(str::to_owned).or(row);
            self.line.clear();
        }
        row
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &str) -> Vec<String> {
        let mut console = Console::default();
        let put = |part: &[u8]| {
            let mut bytes = [0; 16];
            bytes[..part.len()].copy_from_slice(part);
            let registers = u128::from_be_bytes(bytes);
            console.put(part.len() as u64, [(registers >> 64) as u64, registers as u64])
        };
        text.as_bytes().chunks(16).filter_map(put).collect()
    }

    #[test]
    fn a_row_ends_with_its_line() {
        let text = "hello\r\n@ bench h_read 189 loop 12\r\nsays @ bench x 1\n@ bench h_enter 1\n@ bench cut";
        assert_eq!(rows(text), ["h_read", "h_enter"]);
        assert!(rows(&"x".repeat(10_000)).is_empty());
    }

    #[test]
    fn a_length_that_makes_no_sense() {
        assert_eq!(Console::default().put(u64::MAX, [0; 2]), None);
    }
}
