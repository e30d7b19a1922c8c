/**
 * How programs reach the gateway. Over a network it is TLS: with the files that somebody gave, else with a certificate of
 * the cluster's authority for this machine's own names and addresses, made anew when those change or its life is
 * two thirds over. Plain HTTP is for loopback, or for who asked for it by name.
 */
import { X509Certificate } from 'node:crypto'
import { readFileSync, statSync } from 'node:fs'
import { hostname, networkInterfaces } from 'node:os'
import { join } from 'node:path'
import { createSecureContext } from 'node:tls'
import type { ServerFlags } from '../cli/context.ts'
import { CliError } from '../cli/context.ts'
import type { Clock } from '../lib/clock.ts'
import { every } from '../lib/clock.ts'
import { messageOf } from '../lib/errors.ts'
import type { Logger } from '../lib/log.ts'
import { replacePrivateFile } from '../lib/replacefile.ts'
import { alternativesOf } from '../lib/alternativenames.ts'
import { splitHostPort } from '../lib/hostport.ts'
import type { TrustAuthority } from '../server/trust/authority.ts'
import { isLoopback } from './loopback.ts'

/** PEM files; one may hold both. */
export interface TlsFiles {
  readonly cert: string
  readonly key: string
}

export interface TlsPems {
  readonly cert: string
  readonly key: string
}

/** CliError when they cannot be read or do not belong together. */
export function readTls(files: TlsFiles): TlsPems {
  const { cert, key } = files
  try {
    const pems = { cert: readFileSync(cert, 'utf8'), key: readFileSync(key, 'utf8') }
    createSecureContext(pems)
    return pems
  } catch (error) {
    throw new CliError(
      `the gateway's certificate ${cert} with the key ${key}: ${messageOf(error)}. Name two PEM files that belong together: the certificate with those that signed it, and its key`,
    )
  }
}

export const PLAIN_OVER_NETWORK =
  'Prompts and API keys would go over the network in the clear. Give it a certificate (--cert FILE --key FILE), or say --insecure-http if something else encrypts.'

export interface ServingDoors {
  readonly dataDir: string
  readonly clock: Clock
  readonly log: Logger
  readonly signal: AbortSignal
}

/** Files for the gateway beside this server; undefined: plain HTTP. Keeps a certificate of the authority fresh until the signal aborts. */
export async function gatewayTls(
  { gateway, gatewayCert, gatewayKey, gatewayInsecureHttp = false }: ServerFlags,
  authority: TrustAuthority | undefined,
  doors: ServingDoors,
): Promise<TlsFiles | undefined> {
  const given = givenTls({ gatewayCert, gatewayKey })
  if (given !== undefined) {
    if (gatewayInsecureHttp) throw new CliError('--gateway-insecure-http and --gateway-cert exclude each other')
    return given
  }
  if (gateway === 'none' || isLoopback(gateway) || authority === undefined) return undefined
  if (gatewayInsecureHttp) {
    doors.log.warn('the gateway speaks plain HTTP: whoever is on the network can read prompts, answers and API keys', {
      gateway,
    })
    return undefined
  }
  const file = join(doors.dataDir, 'trust', 'gateway-door.pem')
  await renew(authority, file, gateway, doors)
  const look = () =>
    renew(authority, file, gateway, doors).catch((error: unknown) =>
      doors.log.error('gateway certificate not renewed', { error: messageOf(error) }),
    )
  void every(doors.clock, LOOK_MS, doors.signal, look)
  authority.onChange(() => void look())
  return { cert: file, key: file }
}

export function givenTls({
  gatewayCert,
  gatewayKey,
}: Pick<ServerFlags, 'gatewayCert' | 'gatewayKey'>): TlsFiles | undefined {
  if (gatewayCert === undefined && gatewayKey === undefined) return undefined
  if (gatewayCert === undefined || gatewayKey === undefined)
    throw new CliError('a certificate and its key belong together: give both')
  const files = { cert: gatewayCert, key: gatewayKey }
  readTls(files)
  return files
}

const LOOK_MS = 10 * 60_000
const RENEW_AT = 2 / 3

/** Writes a certificate unless the one that is there says the same and is young. */
async function renew(
  authority: TrustAuthority,
  file: string,
  listen: string,
  { clock, log }: ServingDoors,
): Promise<void> {
  const names = namesOf(listen)
  if (isGood(file, authority, names, clock.nowMs())) return
  const { certificatePem, keyPem } = await authority.forGatewayDoor(names)
  replacePrivateFile(file, `${keyPem.trim()}\n${certificatePem.trim()}\n`)
  log.info('the gateway has a certificate of the cluster', { names: [...names.dnsNames, ...names.ipAddresses] })
}

interface Names {
  readonly dnsNames: readonly string[]
  readonly ipAddresses: readonly string[]
}

function isGood(file: string, authority: TrustAuthority, names: Names, nowMs: number): boolean {
  try {
    const pem = readFileSync(file, 'utf8')
    const certificate = new X509Certificate(pem.slice(pem.indexOf(BEGIN)))
    const [fromMs, untilMs] = [Date.parse(certificate.validFrom), Date.parse(certificate.validTo)]
    const known = alternativesOf(certificate.subjectAltName).map(([, name]) => name)
    const wanted = [...names.dnsNames, ...names.ipAddresses]
    const young = nowMs < fromMs + (untilMs - fromMs) * RENEW_AT
    return young && pem.includes(authority.shownPem.trim()) && known.join() === wanted.join()
  } catch {
    return false
  }
}

const BEGIN = '-----BEGIN CERTIFICATE-----'

/** What clients may call this machine. */
export function namesOf(listen: string): Names {
  const { host } = splitHostPort(listen)
  const own = Object.values(networkInterfaces()).flatMap((entries) => entries ?? [])
  const all = own.filter(({ internal, family }) => !internal && family === 'IPv4').map(({ address }) => address)
  const ipAddresses = ['127.0.0.1', ...(host === '0.0.0.0' || host === '::' ? all : [host])]
  const plain = hostname().toLowerCase()
  const names = ['localhost', plain, ...(plain.includes('.') ? [] : [`${plain}.local`])]
  const dnsNames = names.filter((name) => /^[a-z0-9]([-a-z0-9.]{0,250}[a-z0-9])?$/.test(name))
  return { dnsNames, ipAddresses: [...new Set(ipAddresses)].filter((ip) => /^[\d.]+$|:/.test(ip)).sort() }
}

const RELOAD_MS = 60_000

/** Tells of new files until the signal aborts: certificates are renewed while a gateway lives for months. */
export async function followTls(
  files: TlsFiles,
  { clock, log, signal }: Omit<ServingDoors, 'dataDir'>,
  onFresh: (pems: TlsPems) => void,
): Promise<void> {
  const changedMs = () => Math.max(statSync(files.cert).mtimeMs, statSync(files.key).mtimeMs)
  let knownMs = changedMs()
  await every(clock, RELOAD_MS, signal, () => {
    try {
      const nowMs = changedMs()
      if (nowMs === knownMs) return Promise.resolve()
      onFresh(readTls(files))
      knownMs = nowMs
      log.info('the gateway took a new certificate', { cert: files.cert })
    } catch (error) {
      log.error('the gateway keeps its certificate', { error: messageOf(error) })
    }
    return Promise.resolve()
  })
}
