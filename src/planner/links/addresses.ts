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
