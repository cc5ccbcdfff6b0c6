//! The checks of recurrent weights that are left out.

use crate::header::Reader;
use crate::kernel::unpruned;
use crate::layout::{GATES, Layout};
use crate::model::GruLayer;
use crate::sparse::{Panel, Panels, list_len};

impl<'a> Reader<'a> {
    /// A layer whose length [`Panels::measure`] has found.
    #[inline(never)]
    pub(super) fn panels(&mut self, g: &GruLayer<'a>) {
        let (layout, input, units) = (unpruned(g.layout), g.input(), g.units());
        for panel in Panels::new(layout, input, units, g.blocks) {
            // Pairs that the layer has, upwards; zeros behind them.
            let mut least = 0;
            for &pair in panel.pairs {
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
fn has_empty_pair(layout: Layout, input: usize, panel: &Panel<'_>) -> bool {
    if panel.pairs == [0] {
        return false;
    }
    let columns = panel.columns();
    let block_len = layout.gru_block_len(input, columns).max(1);
    let mut seen = true;
    for column in 0..columns {
        if column % 2 == 0 {
            if !seen {
                return true;
            }
            seen = false;
        }
        for block in panel.blocks.chunks_exact(block_len) {
            for row in 0..GATES * layout.gru_group() {
                let (gate, unit) = (row % GATES, row / GATES);
                let place = layout.gru_weight((input, columns), true, gate, unit, column);
                seen |= place.decode(block.get(place.byte).copied().unwrap_or(0)) != 0;
            }
        }
    }
    !seen
}
