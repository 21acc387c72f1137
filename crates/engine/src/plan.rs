//! What the next step computes: how many tokens of each sequence.

/// Tokens that a step computes at most while a sequence is drawing: those wait for it. A tenth of a second or two on the
/// processors of a small machine.
pub(crate) const ROWS_WHILE_DRAWING: usize = 64;
/// Tokens that a step computes at most otherwise: enough for products to run at full speed, few enough that a
/// cancelled prompt does not compute for long.
pub(crate) const ROWS: usize = 256;

/// What a sequence could do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Demand {
    /// Tokens that it must compute to draw the next one; at least one.
    pub(crate) pending: usize,
    /// Tokens that fit into the pages that it holds.
    pub(crate) room: usize,
}

/// How many tokens each sequence computes, from the oldest to the youngest. Those that draw come first, a token each; what is
/// left of the step goes to prompts, an equal part to each, beginning with the one whose turn it is. A sequence that gets none
/// waits for rows or pages.
///
/// `free` pages can be taken, of `page` tokens each.
pub(crate) fn plan(demands: &[Demand], turn: usize, free: usize, page: usize) -> Vec<usize> {
    let drawing = demands.iter().filter(|demand| demand.pending == 1).count();
    let rows = if drawing > 0 { ROWS_WHILE_DRAWING.max(drawing) } else { ROWS };
    let mut left = Left { rows, pages: free, page };
    let mut tokens = vec![0; demands.len()];
    for (demand, tokens) in demands.iter().zip(&mut tokens).filter(|(demand, _)| demand.pending == 1) {
        *tokens = left.take(*demand, 1);
    }
    let prompts: Vec<usize> = (0..demands.len())
        .filter(|index| demands.get(*index).is_some_and(|demand| demand.pending > 1))
        .collect();
    let first = turn.checked_rem(prompts.len()).unwrap_or(0);
    let order = prompts.iter().cycle().skip(first).take(prompts.len());
    for (done, index) in order.enumerate() {
        let share = left.rows.div_ceil(prompts.len().saturating_sub(done).max(1));
        if let (Some(demand), Some(tokens)) = (demands.get(*index), tokens.get_mut(*index)) {
            *tokens = left.take(*demand, share);
        }
    }
    tokens
}

/// What a step has left.
struct Left {
    rows: usize,
    pages: usize,
    page: usize,
}

impl Left {
    /// Takes rows and pages for at most `share` tokens, and says for how many there were.
    fn take(&mut self, demand: Demand, share: usize) -> usize {
        let room = demand.room.saturating_add(self.pages.saturating_mul(self.page));
        let tokens = demand.pending.min(share).min(self.rows).min(room);
        let beyond = tokens.saturating_sub(demand.room);
        self.pages = self.pages.saturating_sub(beyond.div_ceil(self.page.max(1)));
        self.rows = self.rows.saturating_sub(tokens);
        tokens
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PAGE: usize = 32;

    fn demand(pending: usize) -> Demand {
        Demand { pending, room: 0 }
    }

    #[test]
    fn whoever_draws_is_served_before_any_prompt() {
        assert_eq!(plan(&[demand(1000), demand(1), demand(1)], 0, 1000, PAGE), [62, 1, 1]);
        assert_eq!(plan(&[demand(1000)], 0, 1000, PAGE), [ROWS]);
    }

    #[test]
    fn prompts_share_a_step_and_what_one_does_not_need_goes_to_the_others() {
        assert_eq!(plan(&[demand(1000), demand(1000)], 0, 1000, PAGE), [128, 128]);
        assert_eq!(plan(&[demand(10), demand(1000)], 0, 1000, PAGE), [10, 246]);
        // More prompts than rows: the turn goes on.
        let many = vec![demand(9); 2 * ROWS];
        let served = |turn: usize| plan(&many, turn, 10_000, PAGE);
        assert!(served(0)[0] > 0 && served(ROWS)[ROWS] > 0);
    }

    #[test]
    fn nobody_gets_more_than_there_are_pages_for() {
        assert_eq!(plan(&[demand(1000)], 0, 1, PAGE), [PAGE]);
        assert_eq!(plan(&[demand(1), demand(1)], 0, 1, PAGE), [1, 0]);
        assert_eq!(plan(&[Demand { pending: 1, room: 1 }, demand(1)], 0, 0, PAGE), [1, 0]);
        assert_eq!(plan(&[], 3, 9, PAGE), Vec::<usize>::new());
    }

    proptest! {
        #[test]
        fn a_plan_stays_within_rows_and_pages_and_wastes_neither(
            demands in prop::collection::vec((1usize..400, 0usize..PAGE), 0..80),
            turn in 0usize..100,
            free in 0usize..40,
        ) {
            let demands: Vec<Demand> =
                demands.into_iter().map(|(pending, room)| Demand { pending, room }).collect();
            let tokens = plan(&demands, turn, free, PAGE);
            let pages: usize = demands.iter().zip(&tokens)
                .map(|(demand, tokens)| tokens.saturating_sub(demand.room).div_ceil(PAGE)).sum();
            prop_assert!(pages <= free);
            prop_assert!(tokens.iter().sum::<usize>() <= ROWS.max(demands.len()));
            prop_assert!(demands.iter().zip(&tokens).all(|(demand, tokens)| *tokens <= demand.pending));
            // Somebody goes on where anybody can.
            if !demands.is_empty() && (free > 0 || demands.iter().any(|demand| demand.room > 0)) {
                prop_assert!(tokens.iter().any(|tokens| *tokens > 0));
            }
            // Who draws waits for pages alone.
            for (demand, tokens) in demands.iter().zip(&tokens) {
                if demand.pending == 1 && demand.room > 0 {
                    prop_assert_eq!(*tokens, 1);
                }
            }
        }

        #[test]
        fn every_prompt_is_read_to_its_end(lengths in prop::collection::vec(1usize..600, 1..40)) {
            let mut left = lengths.clone();
            let bound: usize = lengths.iter().sum();
            for turn in 0.. {
                let open: Vec<usize> = (0..left.len()).filter(|index| left[*index] > 0).collect();
                if open.is_empty() {
                    break;
                }
                prop_assert!(turn <= bound, "no end");
                let demands: Vec<Demand> = open.iter().map(|index| demand(left[*index])).collect();
                for (index, tokens) in open.iter().zip(plan(&demands, turn, 100_000, PAGE)) {
                    left[*index] -= tokens;
                }
            }
        }
    }
}
