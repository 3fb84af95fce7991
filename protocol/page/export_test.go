package page

// SealWithNonce shows the cipher alone, for the published vectors.
func SealWithNonce(k *Key, nonce, plain, aad []byte) []byte {
	return k.message(nonce).Seal(nil, nonce[12:], plain, aad)
}
