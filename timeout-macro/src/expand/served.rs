//! The call of a function whose body runs in a worker of the fork server: the same call, inside a closure that captures
//! nothing and gets every argument.
//!
//! The closure is entered in the caller, where its call goes the way of every call and the body does not run, and in the
//! worker, with arguments made from what has travelled, where it does. `self` cannot be an argument of a closure, so it
//! gets another name in there.

use proc_macro2::{Delimiter, Group, Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{FnArg, PatType, Receiver, ReceiverKind, Type, parse_quote};

use super::{Expansion, is_of_lints, local};
use crate::function::{mutable_reference, named_by, peel};

impl Expansion<'_> {
    /// ```text
    /// Input:  fn find(&self, word: &str, (from, mut to): (u32, u32)) -> u32 { body }
    /// Output: ::timeout_runtime::__private::serve(
    ///             __call,
    ///             (Ref::of(self), (Ref::of(word), (Val::of(__arg2), ()))),
    ///             |__call, (Ref(__self), (Ref(word), (Val((from, mut to)), ())))| {
    ///                 __call.run::<u32, _>(move || -> u32 { body })
    ///             },
    ///         )
    /// ```
    pub(super) fn serve(&self, run: &TokenStream) -> TokenStream {
        let Self { runtime, call, function, .. } = self;
        let inputs = || function.sig.inputs.iter().enumerate();
        let wrapped = inputs().map(|(index, input)| self.wrap(index, input)).rev();
        let wrapped = wrapped.fold(quote!(()), |rest, first| quote!((#first, #rest)));
        let patterns = inputs().map(|(index, input)| self.unwrap(index, input)).rev();
        let patterns = patterns.fold(quote!(()), |rest, first| quote!((#first, #rest)));
        let lets = inputs().filter_map(|(index, input)| self.lint_apart(index, input));
        let run = without_self(run.clone());
        let inside = quote!(|#call, #patterns| { #(#lets)* #run });
        // An argument may be called `_v`; that we use it is none of clippy's business.
        if inputs().any(|(_, input)| is_silent(input)) {
            let arguments = local("__arguments");
            return quote! {
                #[allow(clippy::used_underscore_binding)]
                let #arguments = #wrapped;
                #runtime::__private::serve(#call, #arguments, #inside)
            };
        }
        quote!(#runtime::__private::serve(#call, #wrapped, #inside))
    }

    /// The `let` that gives an argument its name inside, where a lint is another's business than its pattern's: the user has
    /// said so at the argument, or the attribute is all that uses it.
    fn lint_apart(&self, index: usize, input: &FnArg) -> Option<TokenStream> {
        let FnArg::Typed(PatType { attrs, pat, .. }) = input else { return None };
        let is_mentioned = named_by(pat).is_some_and(|named| self.args.mentions(&named.ident));
        let is_for_the_attribute = is_mentioned && !is_silent(input);
        let attrs: Vec<_> = attrs.iter().filter(|attr| is_of_lints(attr)).collect();
        if self.is_lent(input) || (attrs.is_empty() && !is_for_the_attribute) {
            return None;
        }
        let argument = plain(index);
        let allow = is_for_the_attribute.then(|| quote!(#[allow(unused_variables)]));
        Some(quote!(#allow #(#attrs)* let #pat = #argument;))
    }

    /// An argument on its way in. It stands where its name is: there rustc marks a type that cannot travel.
    fn wrap(&self, index: usize, input: &FnArg) -> TokenStream {
        let (kind, name) = (self.kind(input), name_of(index, input));
        let place = Span::mixed_site().located_at(match input {
            FnArg::Receiver(receiver) => receiver.self_token.span,
            FnArg::Typed(arg) => arg.pat.span(),
        });
        let path = self.runtime.clone().into_iter().map(|mut token| {
            token.set_span(token.span().located_at(place));
            token
        });
        let path: TokenStream = path.collect();
        quote_spanned!(place=> #path::__private::#kind::of(#name))
    }

    /// The same on its way out, under the user's pattern.
    fn unwrap(&self, index: usize, input: &FnArg) -> TokenStream {
        let Self { runtime, .. } = self;
        let kind = self.kind(input);
        let pattern = match input {
            _ if self.lint_apart(index, input).is_some() => plain(index).to_token_stream(),
            FnArg::Receiver(Receiver { mutability, .. }) => {
                let mutability = mutability.as_ref().filter(|_| kind == "Val");
                let own = own_name();
                quote!(#mutability #own)
            }
            // What is borrowed to be changed gets its `mut` where it is lent.
            FnArg::Typed(PatType { pat, .. }) if self.is_lent(input) => {
                named_by(pat).map_or_else(|| quote!(#pat), |named| named.ident.to_token_stream())
            }
            FnArg::Typed(PatType { pat, .. }) => quote!(#pat),
        };
        quote!(#runtime::__private::#kind(#pattern))
    }

    /// Whether an argument gets its name, and what is said of its lints, where it is lent to the body.
    fn is_lent(&self, input: &FnArg) -> bool {
        self.kind(input) == "Mut" && !self.function.never_returns()
    }

    fn kind(&self, input: &FnArg) -> Ident {
        let by_type = |ty: &Type| match peel(ty) {
            Type::Reference(_) if mutable_reference(ty).is_some() => "Mut",
            Type::Reference(_) => "Ref",
            _ => "Val",
        };
        local(match input {
            FnArg::Typed(arg) => by_type(&arg.ty),
            FnArg::Receiver(receiver) => match &receiver.kind {
                ReceiverKind::Reference(_, _, Some(_)) => "Mut",
                ReceiverKind::Reference(..) => "Ref",
                ReceiverKind::Typed(_, ty) => by_type(ty),
                _ => "Val",
            },
        })
    }
}

/// Gives every argument a plain name: patterns, what is `mut`, and what is said of lints belong to the closure.
pub(super) fn name_plainly(index: usize, input: &mut FnArg) {
    let name = name_of(index, input);
    match input {
        FnArg::Receiver(receiver) => receiver.mutability = None,
        FnArg::Typed(arg) => {
            arg.attrs.retain(|attr| !is_of_lints(attr));
            *arg.pat = parse_quote!(#name);
        }
    }
}

fn name_of(index: usize, input: &FnArg) -> TokenStream {
    match input {
        FnArg::Receiver(receiver) => receiver.self_token.to_token_stream(),
        FnArg::Typed(arg) => match named_by(&arg.pat) {
            Some(named) => named.ident.to_token_stream(),
            None => plain(index).to_token_stream(),
        },
    }
}

/// What an argument is called that has another pattern inside.
fn plain(index: usize) -> Ident {
    local(&format!("__arg{index}"))
}

/// Whether an argument's name, as in `_v`, keeps lints quiet by itself.
fn is_silent(input: &FnArg) -> bool {
    match input {
        FnArg::Receiver(_) => false,
        FnArg::Typed(arg) => named_by(&arg.pat).is_some_and(|named| named.ident.to_string().starts_with('_')),
    }
}

/// What `self` is called inside the closure. Strings such as `"{self}"` name it, too, so it must be visible from them.
fn own_name() -> Ident {
    Ident::new(OWN_NAME, Span::call_site())
}

const OWN_NAME: &str = "__timeout_self";

/// Replaces `self`, but for the `self` of a path, of an import, and of a nested item.
fn without_self(tokens: TokenStream) -> TokenStream {
    let mut output = TokenStream::new();
    let mut tokens = tokens.into_iter().peekable();
    // Whether the next braces belong to an item with a `self` of its own.
    let mut item_begins = false;
    let mut after_path = false;
    while let Some(token) = tokens.next() {
        let next_is_path = matches!(tokens.peek(), Some(TokenTree::Punct(punct)) if punct.as_char() == ':')
            && matches!(&token, TokenTree::Ident(ident) if ident == "self");
        let is_colon = matches!(&token, TokenTree::Punct(punct) if punct.as_char() == ':');
        let token = match token {
            TokenTree::Ident(ident) if ident == "self" && !next_is_path => {
                TokenTree::Ident(Ident::new(OWN_NAME, Span::call_site().located_at(ident.span())))
            }
            TokenTree::Ident(ident) => {
                item_begins |= ident == "impl" || ident == "trait";
                TokenTree::Ident(ident)
            }
            TokenTree::Group(group) => {
                let is_items = item_begins && group.delimiter() == Delimiter::Brace;
                let is_import = after_path && group.delimiter() == Delimiter::Brace;
                item_begins &= !is_items;
                if is_items || is_import {
                    TokenTree::Group(group)
                } else {
                    let mut inner = Group::new(group.delimiter(), without_self(group.stream()));
                    inner.set_span(group.span());
                    TokenTree::Group(inner)
                }
            }
            TokenTree::Literal(literal) => TokenTree::Literal(without_self_in_text(literal)),
            TokenTree::Punct(punct) => {
                item_begins &= punct.as_char() != ';';
                TokenTree::Punct(punct)
            }
        };
        after_path = is_colon;
        output.extend([token]);
    }
    output
}

/// Replaces the `{self}` of a format string.
fn without_self_in_text(literal: proc_macro2::Literal) -> proc_macro2::Literal {
    let text = literal.to_string();
    let names_self = text.starts_with('"') && (text.contains("{self}") || text.contains("{self:"));
    if !names_self {
        return literal;
    }
    let text = text.replace("{self}", &format!("{{{OWN_NAME}}}")).replace("{self:", &format!("{{{OWN_NAME}:"));
    match text.parse::<proc_macro2::Literal>() {
        Ok(mut renamed) => {
            renamed.set_span(Span::call_site().located_at(literal.span()));
            renamed
        }
        Err(_) => literal,
    }
}

#[cfg(test)]
mod tests {
    use super::without_self;

    fn renamed(source: &str) -> String {
        without_self(source.parse().expect("tokens")).to_string().replace(super::OWN_NAME, "it").replace(' ', "")
    }

    #[test]
    fn only_the_value_gets_another_name() {
        assert_eq!(renamed("self.a + f(self)"), "it.a+f(it)");
        assert_eq!(renamed("self::f(self)"), "self::f(it)");
        assert_eq!(renamed("use a::{self, b};"), "usea::{self,b};");
        assert_eq!(renamed("impl A for B { fn f(self) {} } self"), "implAforB{fnf(self){}}it");
        assert_eq!(renamed("Self::g(match self { a => a })"), "Self::g(matchit{a=>a})");
        assert_eq!(renamed(r#"format!("{self} {self:?} self")"#), r#"format!("{it}{it:?}self")"#);
    }
}
