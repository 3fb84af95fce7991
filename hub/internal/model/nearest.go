package model

import "strings"

// Nearest returns the candidate that word most likely meant, or "" when none is
// close: at most a third of its letters differ.
func Nearest(word string, candidates []string) string {
	if len(word) > 64 {
		return ""
	}
	best, cost := "", max(1, len(word)/3)+1
	for _, c := range candidates {
		if len(c) > 64 {
			continue
		}
		if d := distance(strings.ToLower(word), strings.ToLower(c)); d < cost {
			best, cost = c, d
		}
	}
	return best
}

// oneOf is the fix for a word that is none of the valid ones.
func oneOf(word string, valid []string) string {
	if near := Nearest(word, valid); near != "" {
		return "did you mean " + near + "?"
	}
	if len(valid) == 0 || len(valid) > 20 {
		return ""
	}
	return "use one of: " + strings.Join(valid, ", ")
}

// distance counts the edits (insert, delete, replace, swap of neighbours)
// between two short words.
func distance(a, b string) int {
	rows := [3][]int{make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)}
	before, last, now := rows[0], rows[1], rows[2]
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		now[0] = i
		for j := 1; j <= len(b); j++ {
			replace := last[j-1]
			if a[i-1] != b[j-1] {
				replace++
			}
			now[j] = min(replace, last[j]+1, now[j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				now[j] = min(now[j], before[j-2]+1)
			}
		}
		before, last, now = last, now, before
	}
	return last[len(b)]
}
