// Package security attacks the built programs the way the attackers of the threat
// model would: strangers at the port, a hub that was taken over, people who look
// for secrets in whatever the programs leave behind. It knows the programs, their
// protocols and their files, and nothing of their insides.
package security
