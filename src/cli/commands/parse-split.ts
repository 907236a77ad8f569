/** `--split 2G`. Pure. */
import { Failure } from '../../base/failure.ts'

const UNITS: Readonly<Record<string, number>> = {
  '': 1,
  K: 2 ** 10,
  M: 2 ** 20,
  G: 2 ** 30,
  T: 2 ** 40,
}
const LEAST_BYTES = 64 * 1024

/** Bytes. TM2100 for what is no size. */
export function parseSplit(text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  const [, digits = '', unit = ''] = /^(\d{1,15})([KMGT]?)$/i.exec(text) ?? []
  const bytes = Number(digits) * (UNITS[unit.toUpperCase()] ?? 0)
  if (bytes >= LEAST_BYTES && Number.isSafeInteger(bytes)) return bytes
  throw new Failure('TM2100', {
    message: `--split cannot be '${text}'`,
    because: `it is a number of bytes, with K, M, G or T behind it, and at least ${LEAST_BYTES / 1024}K`,
    fix: 'say something like --split 2G',
  })
}
