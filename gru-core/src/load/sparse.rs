//! The checks of recurrent weights that are left out.

use super::byte_at;
use crate::header::Reader;
use crate::kernel::unpruned;
use crate::layout::{GATES, Layout};
use crate::model::GruLayer;
use crate::sparse::{Panel, Panels, list_len};

impl<'a> Reader<'a> {
    /// A layer whose length [`Panels::measure`] has found.
    #[inline(never)]
    pub(super) const fn panels(&mut self, g: &GruLayer<'a>) {
        let (layout, input, units) = (unpruned(g.layout), g.input(), g.units());
        let mut panels = Panels::new(layout, input, units, g.blocks);
        while let Some(panel) = panels.next_panel() {
            // Pairs that the layer has, upwards; zeros behind them.
            let mut least = 0;
            let mut rest = panel.pairs;
            while let Some((&pair, others)) = rest.split_first() {
                rest = others;
                let pair = pair as usize;
                if pair < least || 2 * pair >= units {
                    self.not_canonical();
                }
                least = pair + 1;
            }
            self.zeros(panel.pad);
            self.take(list_len(panel.pairs.len()));
            let columns = [input, panel.columns()];
            let real = [input, panel.real_columns(units)];
            self.blocks(layout, panel.units, columns, real, g.w_shift);
            if has_empty_pair(layout, input, &panel) {
                self.not_canonical();
            }
        }
    }
}

/// Whether a pair is there for nothing but zeros, and is not the only one and the first of all.
const fn has_empty_pair(layout: Layout, input: usize, panel: &Panel<'_>) -> bool {
    if matches!(panel.pairs, [0]) {
        return false;
    }
    let columns = panel.columns();
    let block_len = layout.gru_block_len(input, columns);
    let mut seen = true;
    let mut column = 0;
    while column < columns {
        if column % 2 == 0 {
            if !seen {
                return true;
            }
            seen = false;
        }
        let mut blocks = panel.blocks;
        while let Some((block, others)) = blocks.split_at_checked(block_len)
            && block_len != 0
        {
            blocks = others;
            let mut row = 0;
            while row < GATES * layout.gru_group() {
                let (gate, unit) = (row % GATES, row / GATES);
                let place = layout.gru_weight((input, columns), true, gate, unit, column);
                let byte = byte_at(block, place.byte);
                seen |= place.decode(byte) != 0;
                row += 1;
            }
        }
        column += 1;
    }
    !seen
}
