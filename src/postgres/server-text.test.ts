import assert from 'node:assert/strict'
import { test } from 'node:test'
import { decodeServerText } from './server-text.ts'

const CASES: readonly [string, number[], string][] = [
  ['UTF8', [0xc3, 0xb6, 0xe8, 0xa1, 0xa8], 'ö表'],
  ['LATIN1', [0xf6, 0x80], 'ö\u0080'],
  ['LATIN9', [0xa4], '€'],
  ['WIN1252', [0x80], '€'],
  ['WIN1251', [0xe4], 'д'],
  ['KOI8R', [0xc4], 'д'],
  ['EUC_JP', [0xc9, 0xbd], '表'],
  ['SQL_ASCII', [0xc3, 0xb6], 'ö'],
  ['SQL_ASCII', [0xf6], 'ö'],
  ['MULE_INTERNAL', [0x81, 0xf6], '\u0081ö'],
  ['UTF8', [0xff, 0x41], 'ÿA'],
  ['EUC_TW', [0x41, 0x42], 'AB'],
]

for (const [encoding, bytes, text] of CASES) {
  test(`${encoding}: ${bytes.map((byte) => byte.toString(16)).join(' ')}`, () => {
    assert.equal(decodeServerText(Buffer.from(bytes), encoding), text)
  })
}
