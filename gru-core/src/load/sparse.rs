//! The checks of recurrent weights that are left out.

use crate::header::Reader;
use crate::kernel::known;
use crate::layout::{GATES, Layout};
use crate::model::GruLayer;
use crate::sparse::{Panel, Panels, list_len};

impl<'a> Reader<'a> {
    /// A layer whose length [`Panels::measure`] has found.
    #[inline(never)]
    pub(super) fn panels(&mut self, g: &GruLayer<'a>) {
        let (layout, input, units) = (known(g.layout).unpruned(), g.input(), g.units());
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
    let is_empty = |pair: usize| {
        panel.blocks.chunks_exact(block_len).all(|block| {
            let mut weights = (0..GATES).flat_map(|gate| {
                (0..layout.gru_group()).flat_map(move |unit| {
                    [2 * pair, 2 * pair + 1].map(|column| (gate, unit, column))
                })
            });
            weights.all(|(gate, unit, column)| {
                let place = layout.gru_weight((input, columns), true, gate, unit, column);
                place.decode(block.get(place.byte).copied().unwrap_or(0)) == 0
            })
        })
    };
    (0..panel.pairs.len()).any(is_empty)
}
