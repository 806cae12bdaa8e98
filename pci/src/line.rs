//! Interrupt lines (PCI 3.0, 2.2.6; IEEE 1275, Interrupt Mapping): a function pulls one of its bus's four, which the bridges above it lead to one
//! of the host bridge's. Firmware has followed that, and each bridge's node has the outcome for what is right behind it.

/// Cells of an entry of `interrupt-map` as skiboot writes it (core/pci.c, `pci_std_swizzle_irq_map`): the function's address in three and its
/// pin; then the controller, and there the source and its kind.
const ENTRY: usize = 7;

/// The source of a pin (from 1 on) of the function at `place`, the first cell of its address: by its bridge's `interrupt-map-mask` and
/// `interrupt-map`.
pub fn line(mask: &[u8], map: &[u8], place: u32, pin: u32) -> Option<u32> {
    let cells = |bytes: &[u8]| -> [u32; ENTRY] {
        let mut cells = [0; ENTRY];
        let all = bytes.as_chunks().0.iter().map(|cell| u32::from_be_bytes(*cell));
        cells.iter_mut().zip(all).for_each(|(to, cell)| *to = cell);
        cells
    };
    let [place_mask, _, _, pin_mask, ..] = cells(mask);
    let entries = map.chunks_exact(4 * ENTRY).map(cells);
    let mut sources = entries.filter_map(|[at, _, _, its, _, source, _]| {
        (at == place & place_mask && its == pin & pin_mask).then_some(source)
    });
    sources.next().filter(|_| pin != 0)
}
