/**
 * Text in an encoding that PostgreSQL names, as a string. Pure.
 *
 * For names in lists and messages only: where an encoding is unknown here, or bytes do not
 * fit to it (SQL_ASCII), each byte stands for itself, so that nothing is lost or refused.
 */

/** What TextDecoder calls them; PostgreSQL's pg_enc2name_tbl (common/encnames.c). */
const LABELS: Readonly<Record<string, string>> = {
  UTF8: 'utf-8',
  EUC_JP: 'euc-jp',
  EUC_KR: 'euc-kr',
  EUC_CN: 'gbk',
  LATIN2: 'iso-8859-2',
  LATIN3: 'iso-8859-3',
  LATIN4: 'iso-8859-4',
  LATIN6: 'iso-8859-10',
  LATIN7: 'iso-8859-13',
  LATIN8: 'iso-8859-14',
  LATIN9: 'iso-8859-15',
  LATIN10: 'iso-8859-16',
  ISO_8859_5: 'iso-8859-5',
  ISO_8859_6: 'iso-8859-6',
  ISO_8859_7: 'iso-8859-7',
  ISO_8859_8: 'iso-8859-8',
  WIN866: 'ibm866',
  WIN874: 'windows-874',
  WIN1250: 'windows-1250',
  WIN1251: 'windows-1251',
  WIN1252: 'windows-1252',
  WIN1253: 'windows-1253',
  WIN1254: 'windows-1254',
  WIN1255: 'windows-1255',
  WIN1256: 'windows-1256',
  WIN1257: 'windows-1257',
  WIN1258: 'windows-1258',
  KOI8R: 'koi8-r',
  KOI8U: 'koi8-u',
  SQL_ASCII: 'utf-8',
}

export function decodeServerText(bytes: Buffer, encoding: string): string {
  if (bytes.every((byte) => byte < 0x80)) return bytes.toString('latin1')
  const label = LABELS[encoding]
  if (label === undefined) return bytes.toString('latin1')
  try {
    return new TextDecoder(label, { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch {
    return bytes.toString('latin1')
  }
}
