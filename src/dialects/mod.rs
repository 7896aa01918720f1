//! Foreign API shapes over the same core: one shape, one file. Each has a mount and a client, whose grants, sources and throttles
//! apply.

mod croit;

use std::sync::Arc;

use warp::filters::BoxedFilter;

use crate::app::App;
use crate::web::Answer;

/// The routes of the dialects that are enabled, None if there are none.
pub fn routes(app: &Arc<App>) -> Option<BoxedFilter<(Answer,)>> {
    app.config.dialects.croit.as_ref().filter(|croit| croit.enabled).map(|settings| croit::routes(app, settings))
}
