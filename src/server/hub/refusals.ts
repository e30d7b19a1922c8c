/** What the hub's statuses mean to whoever named the model, and what to do. Never with the token. */
import { OpError } from '../../lib/errors.ts'

export interface HubRefusal {
  readonly endpoint: string
  readonly repository: string
  readonly revision: string
  readonly status: number
  readonly headers: Headers
  readonly token: string | undefined
}

export function refusalFor({ endpoint, repository, revision, status, headers, token }: HubRefusal): OpError {
  const what = `read hf://${repository}`
  const page = `${endpoint}/${repository}`
  const code = headers.get('x-error-code')
  const holds = token !== undefined && token !== ''
  if (code === 'GatedRepo')
    return new OpError(
      'Unauthorized',
      holds
        ? `${what}: the repository is gated and the account of HF_TOKEN has no access: accept its terms at ${page}`
        : `${what}: the repository is gated: accept its terms at ${page} and start the server with HF_TOKEN set to a token of that account`,
    )
  if (code === 'RevisionNotFound')
    return new OpError('NotFound', `${what}: it has no revision ${revision}: see ${page}/commits/main`)
  if (code === 'EntryNotFound')
    return new OpError('NotFound', `${what}: a file of its listing is gone at revision ${revision}`)
  if (code === 'DisabledRepo') return new OpError('Forbidden', `${what}: the hub has disabled the repository`)
  // The hub answers so for what does not exist and for what is hidden from this account.
  if (code === 'RepoNotFound' || status === 404)
    return new OpError(
      'NotFound',
      `${what}: no such repository, or a private one: check the name${holds ? ' and what HF_TOKEN may read' : ', or start the server with HF_TOKEN'}`,
    )
  if (status === 401 || status === 403)
    return new OpError(
      'Unauthorized',
      holds
        ? `${what}: the hub refuses HF_TOKEN (${status}): check that it is valid and may read ${page}`
        : `${what}: the hub asks for a token (${status}): start the server with HF_TOKEN`,
    )
  return new OpError('Unavailable', `${what}: the hub answers ${status}`)
}

/** The endpoint without its last slash; OpError Invalid when it is no http(s) address without a user. */
export function checkedEndpoint(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url === undefined || !/^https?:$/.test(url.protocol) || url.username !== '' || url.search !== '')
    throw new OpError(
      'Invalid',
      'HF_ENDPOINT must be an http or https address without a user, for example https://huggingface.co',
    )
  return text.replace(/\/+$/, '')
}
