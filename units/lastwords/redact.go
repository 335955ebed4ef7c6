package lastwords

import (
	"regexp"
	"strings"
)

// hidden replaces a secret.
const hidden = "[hidden]"

// secret is a pattern of secrets. Groups of a match are kept.
type secret struct {
	pattern *regexp.Regexp
	keep    string // the replacement, with the kept parts
}

// secrets are the patterns, each with its origin.
var secrets = []secret{
	// RFC 3986, 3.2.1: userinfo, with or without a password
	{regexp.MustCompile(`(://)[^/\s@"']+@`), "${1}" + hidden + "@"},
	// RFC 9110, 11.4 and RFC 6750: credentials of a header
	{regexp.MustCompile(`(?i)\b(bearer|basic|digest)\s+[A-Za-z0-9._~+/=-]{8,}`), "${1} " + hidden},
	// RFC 7519: a JSON Web Token is three base64url parts, the first beginning with {"
	{regexp.MustCompile(`\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*\.?[A-Za-z0-9_-]*`), hidden},
	// Prefixes of tokens of Hugging Face, OpenAI, GitHub, GitLab, Slack, Amazon and Google
	{regexp.MustCompile(`\b(?:hf_|api_org_|sk-|ghp_|gho_|ghu_|ghs_|ghr_|github_pat_|glpat-|xox[abprs]-|AKIA|ASIA|AIza)[A-Za-z0-9_-]{12,}`), hidden},
}

// named matches a name whose value is a secret, and the value: in a query, an assignment, JSON or a
// flag.
var named = regexp.MustCompile(`(?i)([\w-]*(?:token|secret|passw(?:or)?d|passphrase|api[_-]?key|access[_-]?key|` +
	`authorization|credentials?|signature)[\w-]*["']?\s*(?:[=:]\s*|\s+))(["']?)([^\s"'&,;]+)`)

// number matches the counts of an engine: its log has many tokens that are not secrets.
var number = regexp.MustCompile(`^[-+]?[0-9][0-9.,:/%()]*[a-z]{0,4}$`)

// Redact replaces what looks like a secret in a log line. It is not a guarantee: a secret that an
// engine prints as plain words is not recognised.
func Redact(line string) string {
	for _, s := range secrets {
		line = s.pattern.ReplaceAllString(line, s.keep)
	}
	return named.ReplaceAllStringFunc(line, func(match string) string {
		m := named.FindStringSubmatch(match)
		name, quote, value := m[1], m[2], m[3]
		assigned := strings.ContainsAny(name, "=:")
		flag := strings.HasPrefix(name, "-")
		if value == hidden || number.MatchString(value) || !assigned && !flag {
			return match
		}
		return name + quote + hidden
	})
}
