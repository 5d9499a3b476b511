//! The objects people declare: schema, defaults and pure validation.
