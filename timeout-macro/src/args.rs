//! The attribute's arguments as they are written: the limit, and the options, each with its tokens.
//!
//! Parsing judges nothing: an unknown option, or one given twice, is data here and an error in `check`.

use proc_macro2::{Ident, TokenStream, TokenTree};
use quote::ToTokens;
use syn::ext::IdentExt;
use syn::parse::discouraged::Speculative;
use syn::parse::{Parse, ParseStream};
use syn::{Expr, Lit, LitStr, Path, Token};

/// What an option is followed by.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    Nothing,
    Expression,
    Path,
}

/// Whether an option works.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Support {
    Yes,
    /// Part of the design, not built; the text says what to do until then.
    Later(&'static str),
}

/// One row of the table of options.
pub(crate) struct Spec {
    pub(crate) name: &'static str,
    pub(crate) takes: Takes,
    pub(crate) support: Support,
    /// How it is written, for messages.
    pub(crate) example: &'static str,
}

/// Every option there is.
pub(crate) const OPTIONS: [Spec; 12] = [
    Spec { name: "grace", takes: Takes::Expression, support: Support::Yes, example: "grace = 1" },
    Spec { name: "memory", takes: Takes::Expression, support: Support::Yes, example: "memory = \"256MiB\"" },
    Spec { name: "cpu", takes: Takes::Expression, support: Support::Yes, example: "cpu = 1" },
    Spec { name: "start", takes: Takes::Expression, support: Support::Yes, example: "start = forkserver" },
    Spec { name: "flatten", takes: Takes::Nothing, support: Support::Yes, example: "flatten" },
    Spec { name: "error", takes: Takes::Expression, support: Support::Yes, example: "error = text" },
    Spec { name: "panic", takes: Takes::Expression, support: Support::Yes, example: "panic = \"resume\"" },
    Spec {
        name: "async",
        takes: Takes::Nothing,
        support: Support::Later("until then call the function inside `spawn_blocking`"),
        example: "async",
    },
    Spec {
        name: "each",
        takes: Takes::Expression,
        support: Support::Later("until then return a `Vec` under one limit"),
        example: "each = 1",
    },
    Spec {
        name: "latest",
        takes: Takes::Nothing,
        support: Support::Later("until then return the last value alone"),
        example: "latest",
    },
    Spec { name: "cancel", takes: Takes::Expression, support: Support::Yes, example: "cancel = &token" },
    Spec { name: "crate", takes: Takes::Path, support: Support::Yes, example: "crate = my_timeout" },
];

/// The word for the start method that is not `fork`.
pub(crate) const FORKSERVER: &str = "forkserver";

pub(crate) fn spec(name: &str) -> Option<&'static Spec> {
    OPTIONS.iter().find(|spec| spec.name == name)
}

/// One option as it is written.
pub(crate) struct Opt {
    pub(crate) name: Ident,
    pub(crate) value: Value,
}

pub(crate) enum Value {
    /// `name` alone, or `name =` with nothing behind it.
    None,
    Expr(Box<Expr>),
    Path(Path),
}

impl Value {
    pub(crate) fn expr(&self) -> Option<&Expr> {
        match self {
            Self::Expr(expr) => Some(expr),
            Self::None | Self::Path(_) => None,
        }
    }

    /// The text of a value that is a string literal.
    pub(crate) fn text(&self) -> Option<&LitStr> {
        match self.expr().map(peel)? {
            Expr::Lit(syn::ExprLit { lit: Lit::Str(text), .. }) => Some(text),
            _ => None,
        }
    }

    /// The name of a value that is one word, such as `fork`.
    pub(crate) fn word(&self) -> Option<&Ident> {
        match self.expr().map(peel)? {
            Expr::Path(path) => path.path.get_ident(),
            _ => None,
        }
    }
}

impl ToTokens for Opt {
    /// The value where there is one, else the name: what an error about the option should mark.
    fn to_tokens(&self, tokens: &mut TokenStream) {
        match &self.value {
            Value::None => self.name.to_tokens(tokens),
            Value::Expr(expr) => expr.to_tokens(tokens),
            Value::Path(path) => path.to_tokens(tokens),
        }
    }
}

/// Looks through the invisible groups that `macro_rules!` puts around an `$e:expr`.
fn peel(expr: &Expr) -> &Expr {
    match expr {
        Expr::Group(group) => peel(&group.expr),
        other => other,
    }
}

/// Everything between the parentheses.
#[derive(Default)]
pub(crate) struct Args {
    /// What stands first, without a name.
    pub(crate) limit: Option<Expr>,
    /// What stands further back without a name: nothing, if all is well.
    pub(crate) strays: Vec<Expr>,
    pub(crate) options: Vec<Opt>,
    /// What could not be read at all.
    pub(crate) unreadable: Vec<syn::Error>,
}

impl Args {
    pub(crate) fn option(&self, name: &str) -> Option<&Opt> {
        self.options.iter().find(|option| option.name == name)
    }

    /// Whether the body runs in a worker of the fork server.
    pub(crate) fn is_served(&self) -> bool {
        self.option("start").and_then(|start| start.value.word()).is_some_and(|word| word == FORKSERVER)
    }

    /// Whether an expression of the attribute names this variable.
    pub(crate) fn mentions(&self, variable: &Ident) -> bool {
        let values = ["grace", "memory", "cpu", "cancel"].map(|name| self.option(name)?.value.expr());
        self.limit.iter().chain(values.into_iter().flatten()).any(|expr| contains(expr.to_token_stream(), variable))
    }

    /// The runtime's path, if it is given.
    pub(crate) fn runtime(&self) -> Option<&Path> {
        match &self.option("crate")?.value {
            Value::Path(path) => Some(path),
            Value::None | Value::Expr(_) => None,
        }
    }
}

fn contains(tokens: TokenStream, variable: &Ident) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Ident(ident) => ident == *variable,
        TokenTree::Group(group) => contains(group.stream(), variable),
        TokenTree::Punct(_) | TokenTree::Literal(_) => false,
    })
}

impl Parse for Args {
    /// Reads as much as it can: an argument that cannot be read does not hide the errors in the next one.
    fn parse(input: ParseStream) -> syn::Result<Self> {
        let mut args = Self::default();
        let mut first = true;
        while !input.is_empty() {
            // On a copy: `syn` fails the whole input for what is left over inside a bracket.
            let ahead = input.fork();
            match args.parse_one(&ahead, first) {
                Ok(()) => input.advance_to(&ahead),
                Err(error) => {
                    let message = format!("cannot read this argument: {error}");
                    args.unreadable.push(syn::Error::new(error.span(), message));
                    skip_to_comma(input);
                }
            }
            if !input.is_empty() && !input.peek(Token![,]) {
                args.unreadable.push(input.error("expected `,` between two arguments"));
                skip_to_comma(input);
            }
            input.parse::<Option<Token![,]>>()?;
            first = false;
        }
        Ok(args)
    }
}

impl Args {
    fn parse_one(&mut self, input: ParseStream, first: bool) -> syn::Result<()> {
        if is_option(input, first) {
            let name = Ident::parse_any(input)?;
            let value = parse_value(input, &name)?;
            self.options.push(Opt { name, value });
        } else if first {
            self.limit = Some(input.parse()?);
        } else {
            self.strays.push(input.parse()?);
        }
        Ok(())
    }
}

/// `name = …` is an option; so is a bare word, except in the first place, where it is a limit unless it is a flag.
fn is_option(input: ParseStream, first: bool) -> bool {
    let ahead = input.fork();
    let Ok(name) = Ident::parse_any(&ahead) else { return false };
    let named = ahead.peek(Token![=]) && !ahead.peek(Token![==]) && !ahead.peek(Token![=>]);
    let bare = ahead.is_empty() || ahead.peek(Token![,]);
    let flag = spec(&name.to_string()).is_some_and(|spec| spec.takes == Takes::Nothing);
    named || (bare && (flag || !first))
}

fn parse_value(input: ParseStream, name: &Ident) -> syn::Result<Value> {
    if input.parse::<Option<Token![=]>>()?.is_none() || input.is_empty() || input.peek(Token![,]) {
        return Ok(Value::None);
    }
    let wants_path = spec(&name.to_string()).is_some_and(|spec| spec.takes == Takes::Path);
    if wants_path && !input.peek(Lit) {
        return input.call(Path::parse_mod_style).map(Value::Path);
    }
    input.parse().map(Box::new).map(Value::Expr)
}

fn skip_to_comma(input: ParseStream) {
    while !input.is_empty() && !input.peek(Token![,]) {
        if input.parse::<proc_macro2::TokenTree>().is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use quote::ToTokens;

    use super::{Args, Value};

    fn parse(source: &str) -> Args {
        syn::parse_str(source).expect("reading the arguments never fails as a whole")
    }

    fn limits(args: &Args) -> Vec<String> {
        args.limit.iter().chain(&args.strays).map(|limit| limit.to_token_stream().to_string()).collect()
    }

    fn names(args: &Args) -> Vec<String> {
        args.options.iter().map(|option| option.name.to_string()).collect()
    }

    #[test]
    fn the_limit_stands_first_and_options_follow() {
        let args = parse(r#"self.limit, grace = 1, panic = "resume", start = fork, crate = ::my::rt,"#);
        assert_eq!(limits(&args), ["self . limit"]);
        assert_eq!(names(&args), ["grace", "panic", "start", "crate"]);
        assert_eq!(
            args.option("panic").and_then(|o| o.value.text()).map(syn::LitStr::value).as_deref(),
            Some("resume")
        );
        assert!(args.option("start").and_then(|o| o.value.word()).is_some_and(|word| word == "fork"));
        assert_eq!(args.runtime().to_token_stream().to_string(), ":: my :: rt");
        assert!(args.unreadable.is_empty());
    }

    #[test]
    fn any_expression_is_a_limit() {
        for source in ["limit", "crate::LIMIT", "a == b", "f::<A, B>(x, y)", "if x { 1 } else { 2 }", "grace", "250ms"]
        {
            let args = parse(source);
            assert_eq!((limits(&args).len(), args.options.len(), args.unreadable.len()), (1, 0, 0), "{source}");
        }
    }

    #[test]
    fn a_bare_word_is_an_option_behind_the_limit() {
        let args = parse("2, async, grace, whatever");
        assert_eq!(names(&args), ["async", "grace", "whatever"]);
        assert!(args.options.iter().all(|option| matches!(option.value, Value::None)));
        assert_eq!(names(&parse("async")), ["async"]);
    }

    #[test]
    fn one_bad_argument_does_not_hide_the_others() {
        assert!(matches!(parse("2, grace = , 3").options[0].value, Value::None));
        let args = parse("2, grace = [1 2], memory = 3, + +, 4 5, cpu = 6");
        assert_eq!(limits(&args), ["2", "4"]);
        assert_eq!(names(&args), ["memory", "cpu"]);
        assert_eq!(args.unreadable.len(), 3);
    }
}
