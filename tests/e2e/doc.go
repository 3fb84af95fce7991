// Package e2e runs the built programs as a user would: the scripted path word
// for word, every type value by value from database to database, and bad input
// at every door. It knows commands, files and SQL, and nothing from inside.
package e2e
