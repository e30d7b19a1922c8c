/**
 * Certificates: a private authority, keys, requests and what stands in them. The library is @peculiar/x509 over the
 * platform's WebCrypto; nothing here is cryptography of our own. Keys are ECDSA P-256, all texts PEM.
 */
import 'reflect-metadata'
import { X509Certificate as NodeCertificate, createHash, webcrypto } from 'node:crypto'
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  PemConverter,
  Pkcs10CertificateRequest,
  Pkcs10CertificateRequestGenerator,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509Certificate,
  X509CertificateGenerator,
  cryptoProvider,
} from '@peculiar/x509'
import type { JsonGeneralName, JsonName } from '@peculiar/x509'
import { alternativesOf } from './alternativenames.ts'
import { OpError } from './errors.ts'
import { certificatesIn } from './pem.ts'

type CryptoKey = webcrypto.CryptoKey

cryptoProvider.set(webcrypto)

const algorithm = { name: 'ECDSA', namedCurve: 'P-256' }
const signing = { name: 'ECDSA', hash: 'SHA-256' }

export interface Authority {
  readonly certificatePem: string
  readonly keyPem: string
}

export interface Subject {
  readonly commonName: string
  readonly organization: string
}

/** What a certificate says. Times are ms since 1970. */
export interface CertificateFacts extends Subject {
  readonly uris: readonly string[]
  readonly dnsNames: readonly string[]
  readonly serial: string
  /** Common name of the authority that signed it: believed of certificates whose signature was checked. */
  readonly issuer: string
  readonly notBeforeMs: number
  readonly notAfterMs: number
}

export interface Validity {
  readonly notBeforeMs: number
  readonly notAfterMs: number
}

/** A fresh private key, PKCS #8. */
export async function makeKey(): Promise<string> {
  const { privateKey } = await makePair()
  return pemOfKey(privateKey)
}

/** A self-signed authority that may sign end certificates only. */
export async function makeAuthority(commonName: string, { notBeforeMs, notAfterMs }: Validity): Promise<Authority> {
  const keys = await makePair()
  const certificate = await X509CertificateGenerator.createSelfSigned({
    serialNumber: freshSerial(),
    name: nameOf({ commonName, organization: 'mctl' }),
    notBefore: new Date(notBeforeMs),
    notAfter: new Date(notAfterMs),
    signingAlgorithm: signing,
    keys,
    extensions: [
      new BasicConstraintsExtension(true, 0, true),
      new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
      await SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  })
  return { certificatePem: certificate.toString('pem'), keyPem: await pemOfKey(keys.privateKey) }
}

/** A signing request for the key: proof of its possession, and its public half. The signer chooses the names. */
export async function makeRequest(keyPem: string, subject: Subject): Promise<string> {
  const privateKey = await importKey(keyPem)
  const request = await Pkcs10CertificateRequestGenerator.create({
    name: nameOf(subject),
    keys: { privateKey, publicKey: await publicHalf(privateKey) },
    signingAlgorithm: signing,
  })
  return request.toString('pem')
}

export interface Issue extends Validity {
  readonly requestPem: string
  readonly subject: Subject
  readonly uris?: readonly string[]
  readonly dnsNames?: readonly string[]
  readonly ipAddresses?: readonly string[]
  readonly usage: 'client' | 'server' | 'both'
}

/**
 * Signs the request's key under names that the caller chose: what the request itself asks for is not looked at.
 * OpError Invalid for what is no request, has another kind of key, or is not signed by its own key.
 */
export async function issue(authority: Authority, wanted: Issue): Promise<string> {
  const request = await checkedRequest(wanted.requestPem)
  const issuer = new X509Certificate(authority.certificatePem)
  const { client, server } = usages
  const certificate = await X509CertificateGenerator.create({
    serialNumber: freshSerial(),
    subject: nameOf(wanted.subject),
    issuer: issuer.subjectName.toJSON(),
    notBefore: new Date(wanted.notBeforeMs),
    notAfter: new Date(wanted.notAfterMs),
    publicKey: request.publicKey,
    signingKey: await importKey(authority.keyPem),
    signingAlgorithm: signing,
    extensions: [
      new BasicConstraintsExtension(false, undefined, true),
      new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
      new ExtendedKeyUsageExtension({ client: [client], server: [server], both: [client, server] }[wanted.usage]),
      ...alternativeNames(wanted),
      await SubjectKeyIdentifierExtension.create(request.publicKey),
      await AuthorityKeyIdentifierExtension.create(issuer),
    ],
  })
  return certificate.toString('pem')
}

/** What stands in the first certificate of the text; OpError Invalid when there is none. */
export function readCertificate(certificatePem: string): CertificateFacts {
  const certificate = parsed(certificatePem)
  const names = alternativesOf(certificate.subjectAltName)
  const subject = attributesOf(certificate.subject)
  return {
    commonName: subject.get('CN') ?? '',
    organization: subject.get('O') ?? '',
    uris: names.filter(([type]) => type === 'URI').map(([, name]) => name),
    dnsNames: names.filter(([type]) => type === 'DNS').map(([, name]) => name),
    serial: certificate.serialNumber.toLowerCase(),
    issuer: attributesOf(certificate.issuer).get('CN') ?? '',
    notBeforeMs: Date.parse(certificate.validFrom),
    notAfterMs: Date.parse(certificate.validTo),
  }
}

/** Lower-case hex of SHA-256 over the certificate's DER bytes: what a join token pins. */
export const fingerprintOf = (certificate: string | Uint8Array): string =>
  createHash('sha256')
    .update(typeof certificate === 'string' ? parsed(certificate).raw : certificate)
    .digest('hex')

/** Of each certificate of a text, in its order. */
export const fingerprintsIn = (pem: string): readonly string[] => certificatesIn(pem).map(fingerprintOf)

/** PEM of DER bytes. */
export const pemOf = (der: Uint8Array): string =>
  PemConverter.encode(new Uint8Array(der).buffer, PemConverter.CertificateTag)

const usages = { client: ExtendedKeyUsage.clientAuth, server: ExtendedKeyUsage.serverAuth }

const makePair = async () =>
  (await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])) as webcrypto.CryptoKeyPair

async function pemOfKey(key: CryptoKey): Promise<string> {
  return PemConverter.encode(await webcrypto.subtle.exportKey('pkcs8', key), PemConverter.PrivateKeyTag)
}

async function importKey(keyPem: string): Promise<CryptoKey> {
  try {
    return await webcrypto.subtle.importKey('pkcs8', PemConverter.decodeFirst(keyPem), algorithm, true, ['sign'])
  } catch (cause) {
    throw new OpError('Invalid', 'the private key cannot be read: it must be PKCS #8 PEM of an ECDSA P-256 key', {
      cause,
    })
  }
}

async function publicHalf(privateKey: CryptoKey): Promise<CryptoKey> {
  const { kty, crv, x, y } = await webcrypto.subtle.exportKey('jwk', privateKey)
  // Present in every exported EC key.
  const jwk = { kty: kty ?? 'EC', crv: crv ?? '', x: x ?? '', y: y ?? '' }
  return webcrypto.subtle.importKey('jwk', jwk, algorithm, true, ['verify'])
}

const MAX_REQUEST_CHARS = 8 * 1024

async function checkedRequest(requestPem: string): Promise<Pkcs10CertificateRequest> {
  const broken = (why: string, cause?: unknown) => new OpError('Invalid', `certificate request: ${why}`, { cause })
  if (requestPem.length > MAX_REQUEST_CHARS) throw broken(`must not be longer than ${MAX_REQUEST_CHARS} characters`)
  let request: Pkcs10CertificateRequest
  let isSigned: boolean
  try {
    request = new Pkcs10CertificateRequest(requestPem)
    isSigned = await request.verify()
  } catch (cause) {
    throw broken('must be PEM of PKCS #10', cause)
  }
  if (!isSigned) throw broken('must be signed with its own key')
  const { name, namedCurve } = request.publicKey.algorithm as { name: string; namedCurve?: string }
  if (name !== algorithm.name || namedCurve !== algorithm.namedCurve) throw broken('the key must be ECDSA P-256')
  return request
}

function alternativeNames({ uris = [], dnsNames = [], ipAddresses = [] }: Issue): SubjectAlternativeNameExtension[] {
  const names: JsonGeneralName[] = [
    ...uris.map((value) => ({ type: 'url' as const, value })),
    ...dnsNames.map((value) => ({ type: 'dns' as const, value })),
    ...ipAddresses.map((value) => ({ type: 'ip' as const, value })),
  ]
  return names.length === 0 ? [] : [new SubjectAlternativeNameExtension(names)]
}

const nameOf = ({ commonName, organization }: Subject): JsonName => [{ CN: [commonName] }, { O: [organization] }]

/** 127 random bits: positive, and never the same twice. */
function freshSerial(): string {
  const bytes = webcrypto.getRandomValues(new Uint8Array(16))
  bytes[0] = ((bytes[0] ?? 0) & 0x7f) | 0x40
  return Buffer.from(bytes).toString('hex')
}

function parsed(certificatePem: string): NodeCertificate {
  try {
    return new NodeCertificate(certificatePem)
  } catch (cause) {
    throw new OpError('Invalid', 'the certificate cannot be read: it must be PEM', { cause })
  }
}

const attributesOf = (name: string) => new Map(name.split('\n').map(attribute))

function attribute(line: string): [string, string] {
  const at = line.indexOf('=')
  return [line.slice(0, at), line.slice(at + 1)]
}
