/** `maxPackAge` of a cluster: how old a copy a backup may depend on. */

const AGE = /^([1-9]\d{0,4})([dw])$/
const DAY_MS = 24 * 3600 * 1000
export const DEFAULT_PACK_AGE = '90d'

export function isPackAge(text: string): boolean {
  return text === 'off' || AGE.test(text)
}

/** Milliseconds of `90d` or `12w`; undefined for `off`. */
export function parsePackAge(text = DEFAULT_PACK_AGE): number | undefined {
  if (text === 'off') return undefined
  const [, count = '', unit = ''] = AGE.exec(text) ?? []
  if (count === '') throw new Error(`not an age: ${text}`)
  return Number(count) * (unit === 'w' ? 7 : 1) * DAY_MS
}
