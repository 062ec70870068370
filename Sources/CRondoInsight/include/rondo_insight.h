// What the inspector needs of C: a start without a call, and connections that are the user's own.
#ifndef RONDO_INSIGHT_H
#define RONDO_INSIGHT_H

// Written in Swift; called before `main`, in every program that is linked with it.
void rondo_insight_install(void);

// Takes a connection of a Unix listener, non-blocking and closed on exec. −EPERM: it was another user's, and is closed.
int rondo_accept_own(int listener);

#endif
