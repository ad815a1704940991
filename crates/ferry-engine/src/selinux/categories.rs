//! The levels that are taken: each container has a pair of categories that no other has, unless it asked for another's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use rand::Rng as _;

use crate::error::{Error, Result};

/// Categories are numbered below this.
const CATEGORIES: u32 = 1024;
/// Draws before it counts as full; there are half a million pairs.
const DRAWS: usize = 100_000;

/// Levels in use, with how many use them.
#[derive(Debug, Clone, Default)]
pub(super) struct Categories {
    taken: Arc<Mutex<HashMap<String, usize>>>,
}

/// One use of a level, given back on drop.
#[derive(Debug)]
pub(crate) struct Category {
    all: Categories,
    level: String,
}

impl Category {
    /// The level, such as `s0:c1,c2`.
    pub(crate) fn level(&self) -> &str {
        &self.level
    }
}

impl Drop for Category {
    fn drop(&mut self) {
        let mut taken = self.all.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(users) = taken.get_mut(&self.level) {
            *users -= 1;
            if *users == 0 {
                taken.remove(&self.level);
            }
        }
    }
}

impl Categories {
    /// Draws a pair that nobody has.
    pub(super) fn draw(&self) -> Result<Category> {
        let mut random = rand::rng();
        self.draw_from(DRAWS, || (random.random_range(0..CATEGORIES), random.random_range(0..CATEGORIES)))
    }

    fn draw_from(&self, draws: usize, mut pair: impl FnMut() -> (u32, u32)) -> Result<Category> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..draws {
            let (one, other) = pair();
            let level = format!("s0:c{},c{}", one.min(other), one.max(other));
            if one != other && !taken.contains_key(&level) {
                taken.insert(level.clone(), 1);
                return Ok(Category { all: self.clone(), level });
            }
        }
        Err(Error::internal("every pair of SELinux categories is taken by a container"))
    }

    /// Takes a level that was asked for, be it another's too; `None` for one without categories, which tells nobody apart.
    pub(super) fn reserve(&self, level: &str) -> Option<Category> {
        if !level.contains(":c") {
            return None;
        }
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        *taken.entry(level.to_owned()).or_default() += 1;
        Some(Category { all: self.clone(), level: level.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_not_drawn() {
        let all = Categories::default();
        let asked = all.reserve("s0:c1,c2").unwrap();
        let again = all.reserve("s0:c1,c2");
        let draw = |pairs: &[(u32, u32)]| {
            let mut pairs = pairs.iter().copied();
            all.draw_from(pairs.len(), || pairs.next().unwrap_or_default()).map(|category| category.level().to_owned())
        };
        assert_eq!(draw(&[(2, 1), (5, 5), (9, 3)]).unwrap(), "s0:c3,c9");
        drop(asked);
        assert!(draw(&[(1, 2)]).unwrap_err().text().contains("every pair"));
        drop(again);
        assert_eq!(draw(&[(1, 2)]).unwrap(), "s0:c1,c2");
        assert!(all.reserve("s0").is_none() && all.taken.lock().unwrap().is_empty());
    }
}
