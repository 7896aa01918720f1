//! Foreign API shapes over the same core: one shape, one file. Each has a mount and a client, whose grants, sources and throttles
//! apply.

mod croit;

use std::sync::Arc;

use warp::filters::BoxedFilter;

use crate::app::App;
use crate::config::Problem;
use crate::web::Answer;

/// The routes of the dialects that are enabled, None if there are none.
///
/// Errors: a dialect that cannot tell which client or source it works for.
pub fn routes(app: &Arc<App>) -> Result<Option<BoxedFilter<(Answer,)>>, Vec<Problem>> {
    match app.config.dialects.croit.as_ref().filter(|croit| croit.enabled) {
        Some(settings) => croit::routes(app, settings).map(Some).map_err(|problem| vec![problem]),
        None => Ok(None),
    }
}
