#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR MIT
# needs: openssl
# libcrypto chooses its assembly by cpuid. Keys are random: only what they do is shown.
for d in md5 sha1 sha256 sha512 sha3-256 blake2b512 sm3 ripemd160; do openssl dgst -$d <"$WORDS"; done
for c in aes-128-cbc aes-256-ctr chacha20 camellia-128-cbc des-ede3-cbc; do
	openssl enc -$c -K 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f \
		-iv 000102030405060708090a0b0c0d0e0f -in "$WORDS" 2>/dev/null | md5sum
done
openssl enc -aes-256-cbc -pbkdf2 -iter 1000 -S 0102030405060708 -k pass -in "$WORDS" | md5sum
openssl dgst -sha256 -hmac key "$WORDS" | sed 's/.*= //'
openssl prime 1000000007 1000000008 FFFFFFFFFFFFFFC5; openssl prime -generate -bits 128 | wc -l
openssl genrsa -out key 1024 2>/dev/null; openssl rsa -in key -check -noout 2>&1
openssl rsa -in key -pubout -out pub 2>/dev/null
openssl dgst -sha256 -sign key -out sig "$WORDS"; openssl dgst -sha256 -verify pub -signature sig "$WORDS"
openssl ecparam -name prime256v1 -genkey -noout -out ec; openssl ec -in ec -pubout -out ecpub 2>/dev/null
openssl dgst -sha256 -sign ec -out sig "$WORDS"; openssl dgst -sha256 -verify ecpub -signature sig "$WORDS"
openssl genpkey -algorithm ed25519 -out ed; openssl pkeyutl -sign -inkey ed -rawin -in sig -out edsig; wc -c <edsig
openssl rand -hex 16 | wc -c; openssl base64 <"$WORDS" | md5sum; openssl asn1parse -in key | wc -l
openssl passwd -6 -salt abcdefgh secret; openssl speed nosuch 2>/dev/null; echo $?
