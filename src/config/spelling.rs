//! Which known word a misspelt one was meant to be.

/// The word that `text` is most likely a misspelling of, whatever its case.
pub(super) fn nearest<'w>(text: &str, words: &[&'w str]) -> Option<&'w str> {
    if text.len() > 64 {
        return None;
    }
    let distances = words.iter().map(|word| (distance(&text.to_lowercase(), &word.to_lowercase()), *word));
    let (least, word) = distances.min()?;
    (least <= word.len().max(3) / 3).then_some(word)
}

/// How many characters have to be put in, left out or replaced (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.chars().count()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in other.chars().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[other.chars().count()]
}
