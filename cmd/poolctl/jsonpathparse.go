package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// templateDepth bounds ranges within ranges.
const templateDepth = 16

// parseTemplate reads a template: text, and in braces paths, texts in quotes, range and end. One
// without braces is a path.
func parseTemplate(template string) ([]node, error) {
	if template == "" {
		return nil, errors.New("the template is empty")
	}
	if !strings.Contains(template, "{") {
		template = "{" + template + "}"
	}
	nodes, rest, err := parseNodes(template, 0)
	if err == nil && rest != "" {
		err = errors.New("{end} without {range}")
	}
	return nodes, err
}

// parseNodes reads until the end, or until the {end} of a range; rest is what follows it.
func parseNodes(s string, depth int) (nodes []node, rest string, err error) {
	if depth > templateDepth {
		return nil, "", errors.New("too many ranges within ranges")
	}
	for s != "" {
		text, after, braces := strings.Cut(s, "{")
		if text != "" {
			nodes = append(nodes, node{text: text})
		}
		if !braces {
			break
		}
		inner, after, err := braced(after)
		if err != nil {
			return nil, "", err
		}
		s = after
		switch {
		case inner == "end":
			if depth == 0 {
				return nil, "", errors.New("{end} without {range}")
			}
			return nodes, s, nil
		case inner == "range" || strings.HasPrefix(inner, "range "):
			n := node{text: inner, loop: true}
			if n.path, err = parsePath(strings.TrimPrefix(inner, "range")); err != nil {
				return nil, "", fmt.Errorf("{%s}: %w", inner, err)
			}
			if n.body, s, err = parseNodes(s, depth+1); err != nil {
				return nil, "", err
			}
			nodes = append(nodes, n)
		case inner != "" && inner[0] == '"':
			literal, err := strconv.Unquote(inner)
			if err != nil {
				return nil, "", fmt.Errorf("{%s} is not a text in quotes", inner)
			}
			nodes = append(nodes, node{text: literal})
		default:
			path, err := parsePath(inner)
			if err != nil {
				return nil, "", fmt.Errorf("{%s}: %w", inner, err)
			}
			nodes = append(nodes, node{text: inner, path: append([]stepper{itself}, path...)})
		}
	}
	if depth > 0 {
		return nil, "", errors.New("{range} without {end}")
	}
	return nodes, "", nil
}

// itself is the step of a path without any.
func itself(from []any) ([]any, error) { return from, nil }

// braced returns what is within braces, of which the first was read; one in quotes is no brace.
func braced(s string) (inner, rest string, err error) {
	var quote byte
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case quote != 0 && c == '\\':
			i++
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'':
			quote = c
		case c == '}':
			return strings.TrimSpace(s[:i]), s[i+1:], nil
		}
	}
	return "", "", errors.New("a brace is not closed")
}

// parsePath reads the steps of a path; $ and @ at its beginning are the value itself.
func parsePath(s string) (steps []stepper, err error) {
	s = strings.TrimSpace(s)
	if s != "" && (s[0] == '$' || s[0] == '@') {
		s = s[1:]
	} else if s == "" || s[0] != '.' && s[0] != '[' {
		return nil, errors.New("a path begins with a dot, as .pools[0].id")
	}
	if s == "." {
		return nil, nil
	}
	for s != "" {
		var step stepper
		switch {
		case strings.HasPrefix(s, ".."):
			name, rest := nameAt(s[2:])
			if name == "" {
				return nil, fmt.Errorf("a name is missing at %q", s)
			}
			step, s = descendants(name), rest
		case strings.HasPrefix(s, ".*"):
			step, s = children, s[2:]
		case s[0] == '.' && strings.HasPrefix(s, ".["):
			s = s[1:]
			continue
		case s[0] == '.':
			name, rest := nameAt(s[1:])
			if name == "" {
				return nil, fmt.Errorf("a name is missing at %q", s)
			}
			step, s = field(name), rest
		case s[0] == '[':
			inner, rest, err := bracketed(s[1:])
			if err != nil {
				return nil, err
			}
			if step, err = parseBracket(inner); err != nil {
				return nil, err
			}
			s = rest
		default:
			return nil, fmt.Errorf("want a dot or a bracket at %q", s)
		}
		steps = append(steps, step)
	}
	return steps, nil
}

// nameAt reads a name.
func nameAt(s string) (name, rest string) {
	end := strings.IndexFunc(s, func(r rune) bool {
		return r != '_' && r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
	if end < 0 {
		return s, ""
	}
	return s[:end], s[end:]
}

// bracketed returns what is within brackets, of which the first was read.
func bracketed(s string) (inner, rest string, err error) {
	depth := 1
	var quote byte
	for i := range len(s) {
		switch c := s[i]; {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'':
			quote = c
		case c == '[':
			depth++
		case c == ']':
			if depth--; depth == 0 {
				return strings.TrimSpace(s[:i]), s[i+1:], nil
			}
		}
	}
	return "", "", errors.New("a bracket is not closed")
}

func parseBracket(inner string) (stepper, error) {
	if filter, ok := strings.CutPrefix(inner, "?("); ok {
		filter, ok = strings.CutSuffix(filter, ")")
		if !ok {
			return nil, fmt.Errorf("[%s]: a parenthesis is not closed", inner)
		}
		return parseFilter(filter)
	}
	if name, ok := unquoted(inner); ok {
		return field(name), nil
	}
	if inner == "*" {
		return children, nil
	}
	if from, to, ok := strings.Cut(inner, ":"); ok {
		a, errA := index(from)
		b, errB := index(to)
		if err := errors.Join(errA, errB); err != nil {
			return nil, fmt.Errorf("[%s] is not of the form [FROM:TO]", inner)
		}
		return elements(a, b), nil
	}
	i, err := strconv.Atoi(inner)
	if err != nil {
		return nil, fmt.Errorf("[%s] is neither a number, *, FROM:TO, 'NAME' nor ?(@.NAME==VALUE)", inner)
	}
	return element(i), nil
}

// index is a bound of a slice; nil for none.
func index(s string) (*int, error) {
	if s = strings.TrimSpace(s); s == "" {
		return nil, nil
	}
	i, err := strconv.Atoi(s)
	return &i, err
}

// unquoted is a text without its quotes.
func unquoted(s string) (string, bool) {
	if len(s) < 2 || s[0] != s[len(s)-1] || s[0] != '\'' && s[0] != '"' {
		return "", false
	}
	return s[1 : len(s)-1], true
}

// parseFilter reads @.NAME, or a comparison of it with a value.
func parseFilter(s string) (stepper, error) {
	at, op := len(s), ""
	for i := range len(s) {
		if strings.IndexByte("=!<>", s[i]) < 0 {
			continue
		}
		at, op = i, s[i:min(i+2, len(s))]
		if op[len(op)-1] != '=' {
			op = op[:1]
		}
		break
	}
	if op == "=" || op == "!" {
		return nil, fmt.Errorf("?(%s): want ==, !=, <, <=, > or >=", s)
	}
	path, err := parsePath(s[:at])
	if err != nil {
		return nil, fmt.Errorf("?(%s): %w", s, err)
	}
	want := strings.TrimSpace(s[min(at+len(op), len(s)):])
	if text, ok := unquoted(want); ok {
		want = text
	} else if op != "" && want == "" {
		return nil, fmt.Errorf("?(%s): a value is missing", s)
	}
	return where(path, op, want), nil
}
