/** IPv4 addresses and their subnets, as text. */

export interface Cidr {
  readonly address: string
  readonly network: number
  readonly length: number
}

/** `10.0.0.1/30`; undefined: it is not IPv4. */
export function parseCidr(text: string): Cidr | undefined {
  const [, address = '', bits] = /^((?:\d{1,3}\.){3}\d{1,3})\/(\d{1,2})$/.exec(text) ?? []
  const length = Number(bits ?? NaN)
  const octets = address.split('.').map(Number)
  if (!(length <= 32) || octets.some((octet) => octet > 255)) return undefined
  const number = octets.reduce((sum, octet) => sum * 256 + octet, 0)
  const size = 2 ** (32 - length)
  return { address, network: Math.floor(number / size) * size, length }
}

/** Of two `address/length`. */
export function sameSubnet(a: string, b: string): boolean {
  const [one, other] = [parseCidr(a), parseCidr(b)]
  return one !== undefined && one.network === other?.network && one.length === other.length
}

/** One that a machine gave itself for want of better. */
export const isLinkLocal = (address: string): boolean => address.startsWith('169.254.')

/** Some address is in both. Of two `address/length`; false where one is not IPv4. */
export function overlap(a: string, b: string): boolean {
  const [one, other] = [parseCidr(a), parseCidr(b)]
  if (one === undefined || other === undefined) return false
  const size = 2 ** (32 - Math.min(one.length, other.length))
  return Math.floor(one.network / size) === Math.floor(other.network / size)
}

/** The address of a number, as in `Cidr.network`. */
export const ipv4Text = (number: number): string =>
  [2 ** 24, 2 ** 16, 2 ** 8, 1].map((part) => Math.floor(number / part) % 256).join('.')

/** 30 → 255.255.255.252 */
export const netmaskOf = (length: number): string => ipv4Text(2 ** 32 - 2 ** (32 - length))
