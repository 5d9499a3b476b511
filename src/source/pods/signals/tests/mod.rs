//! What signals promise: each thing once, whatever the watches repeat or leave out, and only of what is in view.

mod changes;
mod events;
mod view;
