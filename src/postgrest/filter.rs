//! Which row a request's filters name.

use super::query::Query;
use super::schema::Table;

/// Parameters that never filter a column of that name.
const RESERVED: [&str; 10] =
    ["select", "columns", "on_conflict", "order", "limit", "offset", "and", "or", "not.and", "not.or"];

/// The row that the filters name: every column of the primary key is compared
/// with `eq` and a value of known spelling, as a parameter of its own. Other
/// filters can only hide that row. The pairs are canonical, in the key's order.
pub(super) fn named_row(table: &Table, query: &Query) -> Option<Vec<(String, String)>> {
    if table.key().is_empty() {
        return None;
    }
    table.key().iter().map(|column| Some((column.clone(), compared_with(table, column, query)?))).collect()
}

/// Filters of one column all hold: any one that names a single value will do.
fn compared_with(table: &Table, column: &str, query: &Query) -> Option<String> {
    if RESERVED.contains(&column) {
        return None;
    }
    let key_type = table.column(column)?.key_type?;
    query.all(column).find_map(|filter| key_type.canonical(filter.strip_prefix("eq.")?))
}
