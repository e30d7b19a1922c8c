/** With what a call shows who it is: the credentials of the context whose server it goes to. */
import type { ClientTls } from '../../rpc/tls.ts'
import type { Cli } from '../context.ts'
import type { Context } from './file.ts'

const chosen = new WeakMap<object, Context>()

/** The context that a command follows; its credentials are for its own server only. */
export const signIn = (cli: Pick<Cli, 'env'>, context: Context): void => void chosen.set(cli, context)

/** undefined: the call says who it is by header, as loopback without identities wants it. */
export function credentialsFor(cli: Pick<Cli, 'env'>, server: string): ClientTls | undefined {
  const context = chosen.get(cli)
  if (context === undefined || context.server !== server) return undefined
  return tlsOf(context)
}

export function tlsOf({ authority, certificate, key }: Context): ClientTls | undefined {
  if (typeof authority !== 'string') return undefined
  if (typeof certificate !== 'string' || typeof key !== 'string') return { authorityPem: authority }
  return { authorityPem: authority, own: { certificatePem: certificate, keyPem: key } }
}
