package lastwords

import (
	"regexp"
	"strings"

	"github.com/pool-managerd/pool-managerd/units/pattern"
)

// hidden replaces a secret.
const hidden = "[hidden]"

// secret is a pattern of secrets. Groups of a match are kept.
type secret struct {
	pattern func() *regexp.Regexp
	keep    string // the replacement, with the kept parts
}

// secrets are the patterns, each with its origin.
var secrets = []secret{
	// RFC 7468: a key in PEM, and a line of one, which is 64 characters of base64
	{pattern.Lazy(`-----BEGIN [A-Z0-9 ]*KEY-----.*`), hidden},
	{pattern.Lazy(`^\s*[A-Za-z0-9+/]{64}\s*$`), hidden},
	// RFC 3986, 3.2.1: userinfo, with or without a password
	{pattern.Lazy(`(://)[^/\s@"']+@`), "${1}" + hidden + "@"},
	// RFC 9110, 11.4 and RFC 6750: credentials of a header
	{pattern.Lazy(`(?i)\b(bearer|basic|digest)\s+[A-Za-z0-9._~+/=-]{8,}`), "${1} " + hidden},
	// RFC 7519: a JSON Web Token is three base64url parts, the first beginning with {"
	{pattern.Lazy(`\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*\.?[A-Za-z0-9_-]*`), hidden},
	// Prefixes of tokens of Hugging Face, OpenAI, GitHub, GitLab, Slack, Amazon and Google
	{pattern.Lazy(`\b(?:hf_|api_org_|sk-|ghp_|gho_|ghu_|ghs_|ghr_|github_pat_|glpat-|xox[abprs]-|AKIA|ASIA|AIza)[A-Za-z0-9_-]{12,}`), hidden},
}

// named matches a name whose value is a secret, what is between them, and the value: in a query, an
// assignment, JSON, a flag or a sentence.
var named = pattern.Lazy(`(?i)((?:[\w-]*(?:token|secret|passw(?:or)?d|passphrase|api[_-]?key|access[_-]?key|` +
	`private[_-]?key|authorization|credentials?|signature)[\w-]*|\b(?:[\w-]*[_-])?(?:pass|pwd))["']?)` +
	`(\s*[=:]\s*|\s+is:?\s+|\s+)("[^"]*"?|'[^']*'?|[^\s"'&,;]+)`)

// number matches the counts of an engine: its log has many tokens that are not secrets.
var number = pattern.Lazy(`^[-+]?[0-9][0-9.,:/%()]*[a-z]{0,4}$`)

// variable is the name of an environment variable of several words.
var variable = pattern.Lazy(`^[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+$`)

// remark is a word about a secret that is none: "password is required", "HF_TOKEN not set".
var remark = pattern.Lazy(`(?i)^(?:not|no|missing|required|needed|invalid|wrong|incorrect|expired|empty|unset|set|too|` +
	`unknown|ignored|deprecated|disabled|enabled|is|was|has|for|in|from|of|and|or)$`)

// Redact replaces what looks like a secret in a log line. It is not a guarantee: a secret that an
// engine prints among plain words is not recognised.
func Redact(line string) string {
	for _, s := range secrets {
		line = s.pattern().ReplaceAllString(line, s.keep)
	}
	return named().ReplaceAllStringFunc(line, func(match string) string {
		m := named().FindStringSubmatch(match)
		name, between, value := m[1], m[2], m[3]
		quote := strings.Trim(value[:1], "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
		if quote != `"` && quote != "'" {
			quote = ""
		}
		bare := strings.Trim(value, quote)
		if bare == "" || strings.Contains(bare, hidden) || !isSecret(name, between, bare, quote != "") {
			return match
		}
		return name + between + quote + hidden + quote
	})
}

// isSecret reports whether a value is the secret that its name indicates.
func isSecret(name, between, value string, quoted bool) bool {
	name = strings.Trim(name, `"'`)
	lower := strings.ToLower(name)
	assigned := strings.ContainsAny(between, "=:")
	switch {
	case remark().MatchString(value) && !assigned:
		return false
	case number().MatchString(value):
		return assigned && (strings.Contains(lower, "passw") || strings.HasSuffix(lower, "pwd") ||
			strings.Contains(lower, "secret"))
	case assigned, strings.HasPrefix(name, "-"), variable().MatchString(name):
		return true
	case strings.TrimSpace(between) != "": // "is"
		return true
	}
	// a parser quotes the token that it did not expect
	return quoted && !strings.HasPrefix(lower, "token") && lower != "signature"
}
