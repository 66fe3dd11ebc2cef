//! Collects the compile errors of one attribute, so that the user sees all of them at once.

use std::fmt::Display;

use proc_macro2::TokenStream;
use quote::ToTokens;

/// The errors found so far, in the order in which the rules ran.
#[derive(Default)]
pub(crate) struct Errors {
    found: Vec<syn::Error>,
}

impl Errors {
    /// Adds an error that marks `token`: pass the smallest one that is wrong.
    pub(crate) fn at(&mut self, token: impl ToTokens, message: impl Display) {
        self.found.push(syn::Error::new_spanned(token, message));
    }

    /// Adds an error that already knows its place.
    pub(crate) fn push(&mut self, error: syn::Error) {
        self.found.push(error);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// One `compile_error!` for each error.
    pub(crate) fn to_compile_errors(&self) -> TokenStream {
        self.found.iter().map(syn::Error::to_compile_error).collect()
    }
}
